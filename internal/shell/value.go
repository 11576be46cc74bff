package shell

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

func (s *reader) assign(a *syntax.Assign) {
	name := a.Name.Value
	switch {
	case a.Array != nil:
		var list []string
		if a.Append {
			list = s.lists[name]
		}
		for _, element := range a.Array.Elems {
			if element.Value != nil {
				list = append(slices.Clip(list), s.words(element.Value)...)
			}
		}
		s.lists[name] = list
	case a.Value == nil:
		s.vars[name] = ""
	case a.Append:
		s.vars[name] += s.single(a.Value)
	default:
		before := len(s.unknown)
		value := s.single(a.Value)
		if len(s.unknown) > before { // it is told where it is used
			s.unknown = s.unknown[:before]
			delete(s.vars, name)
			return
		}
		s.vars[name] = value
	}
	s.made += len(s.vars[name])
}

// words are what a word becomes: mostly one, more for a list or a variable that stands without quotes.
func (s *reader) words(w *syntax.Word) []string {
	if len(w.Parts) != 1 {
		return []string{s.single(w)}
	}
	part := w.Parts[0]
	quoted := false
	if q, ok := part.(*syntax.DblQuoted); ok && len(q.Parts) == 1 {
		part, quoted = q.Parts[0], true
	}
	if p, ok := part.(*syntax.ParamExp); ok {
		if list, ok := s.list(p); ok {
			return list
		}
		text, known := s.param(p)
		if known && !quoted {
			return strings.Fields(text)
		}
		return []string{text}
	}
	return []string{s.single(w)}
}

// list is the value of "${NAME[@]}", and of what a script was called with.
func (s *reader) list(p *syntax.ParamExp) ([]string, bool) {
	if p.Param == nil {
		return nil, false
	}
	if p.Param.Value == "@" || p.Param.Value == "*" {
		s.unknown = append(s.unknown, "$"+p.Param.Value)
		return nil, true
	}
	index, ok := p.Index.(*syntax.Word)
	if !ok || index.Lit() != "@" && index.Lit() != "*" {
		return nil, false
	}
	list, ok := s.lists[p.Param.Value]
	for _, word := range list {
		s.made += len(word)
	}
	if s.made > maxMade {
		return nil, ok
	}
	return list, ok
}

// single is a word as one text.
func (s *reader) single(w *syntax.Word) string {
	var b strings.Builder
	s.parts(&b, w.Parts, false)
	s.made += b.Len()
	return b.String()
}

func (s *reader) parts(b *strings.Builder, parts []syntax.WordPart, quoted bool) {
	for _, part := range parts {
		if s.made+b.Len() > maxMade {
			s.made += b.Len()
			return
		}
		switch p := part.(type) {
		case *syntax.Lit:
			b.WriteString(unescape(p.Value, quoted))
		case *syntax.SglQuoted:
			if !p.Dollar {
				b.WriteString(p.Value)
				continue
			}
			text, err := expand.Literal(nil, &syntax.Word{Parts: []syntax.WordPart{p}})
			if err != nil {
				s.raw(b, p)
				continue
			}
			b.WriteString(text)
		case *syntax.DblQuoted:
			s.parts(b, p.Parts, true)
		case *syntax.ParamExp:
			text, _ := s.param(p)
			b.WriteString(text)
		default:
			s.raw(b, part)
		}
	}
}

// raw writes what only a run would tell as it stands.
func (s *reader) raw(b *strings.Builder, node syntax.Node) {
	text := s.source(node)
	s.unknown = append(s.unknown, text)
	b.WriteString(text)
}

// param is the value of a variable, and whether it is known.
func (s *reader) param(p *syntax.ParamExp) (string, bool) {
	plain := p.Param != nil && !p.Excl && !p.Length && !p.Width && p.Index == nil && p.Slice == nil && p.Repl == nil && p.Names == 0
	if plain {
		value, set := s.vars[p.Param.Value]
		switch {
		case p.Exp == nil && set:
			return value, true
		case p.Exp != nil && (p.Exp.Op == syntax.DefaultUnset || p.Exp.Op == syntax.DefaultUnsetOrNull ||
			p.Exp.Op == syntax.AssignUnset || p.Exp.Op == syntax.AssignUnsetOrNull):
			if set && value != "" {
				return value, true
			}
			before := len(s.unknown)
			if p.Exp.Word == nil {
				return "", true
			}
			text := s.single(p.Exp.Word)
			return text, len(s.unknown) == before
		case p.Exp != nil && set && (p.Exp.Op == syntax.ErrorUnset || p.Exp.Op == syntax.ErrorUnsetOrNull):
			return value, true
		}
	}
	text := s.source(p)
	s.unknown = append(s.unknown, text)
	return text, false
}

// source is what stands in the text.
func (s *reader) source(n syntax.Node) string {
	from, to := int(n.Pos().Offset()), int(n.End().Offset())
	if from > to || to > len(s.text) {
		return ""
	}
	return s.text[from:to]
}

// unescape takes backslashes away as a shell does.
func unescape(text string, quoted bool) string {
	if !strings.ContainsRune(text, '\\') {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		switch {
		case text[i] == '\n':
		case quoted && !strings.ContainsRune("$`\"\\", rune(text[i])):
			b.WriteString(text[i-1 : i+1])
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}
