package lastwords

import (
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// The marks of levels.
var (
	// llama.cpp since December 2024: "0.00.014.837 E gguf_init_from_file: …". The time can be switched off.
	llamaMark = lazyregexp.New(`^(?:\d+\.\d\d\.\d\d\d\.\d\d\d )?([TDIWE]) (\S.*|$)`)
	// vLLM "(EngineCore pid=4300) ERROR 11-23 10:00:44 [core.py:1200] …", uvicorn "ERROR:    …", Rust's tracing
	// "2026-01-08T10:00:00.000000Z ERROR shard-manager: …", and what is like them.
	wordMark = lazyregexp.New(`^((?:\([^)]*\) |\[[^\]]*\]:? )*(?:\d{4}-\d\d-\d\d[T ]\S+ +)?)\[?(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\b\]?:? ?` +
		`(?: *\d\d-\d\d \d\d:\d\d:\d\d)?(?: \[[^\]]+:\d+\])?(?: ?)(.*)$`)
	// JSON and logfmt.
	keyMark = lazyregexp.New(`(?i)(?:"level": ?"|\blevel=)(trace|debug|info|warn|warning|error|critical|fatal)\b`)
	// Who speaks, where no level follows: "(APIServer pid=4242) Traceback …", "[2026-07-20 10:00:00] TP0] …".
	speaker = lazyregexp.New(`^(?:\([A-Za-z]\w*[^)]*\) |\[\d{4}-\d\d-\d\d[^\]]*\] (?:\w+\] )?)`)
)

// The words of errors.
var (
	// exception is the last line of a traceback.
	exception = lazyregexp.New(`^(?:(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)(?:: |$)|(?:[A-Za-z_]\w*\.)+[A-Z]\w*: )`)
	// counting is all that pydantic says on that line; what is wrong stands two lines below.
	counting = lazyregexp.New(`: \d+ validation errors? for `)
	chained  = lazyregexp.New(`^(?:During handling of the above exception, another exception occurred|The above exception was the direct cause of)`)
	// fatal is never said in passing, so that it needs no mark.
	fatal = lazyregexp.New(`^error\b|^Error: |GGML_ASSERT\(|^terminate called|^ +what\(\): |\bCUDA error\b|^Fatal |panicked at|: error while loading shared libraries|` +
		`^(?:Segmentation fault|Illegal instruction|Bus error)|Assertion .* failed`)
	// wrong is an error in a log without marks.
	wrong = lazyregexp.New(`(?i)\b(?:error|failed|failure|fatal|cannot|can't|could ?n[o']t|unable to|exception|invalid|not (?:found|supported|enough)|no such file|denied|refused|abort(?:ed|ing)?|out of memory)\b`)
	// pointer says that something is wrong, and not what.
	pointer = lazyregexp.New(`exiting due to|(?i:see (?:the )?(?:root cause|stack trace|logs?\b|above))|^Error: (?:ShardCannotStart|DownloadError|WebserverFailed|ShardFailed)$|` +
		`Webserver Crashed|Shard \d+ failed to start|Received sigquit from a child|standard error output:$|encountered an error:$|Scheduler hit an exception|failed to start\.?$|` +
		`^terminate called|Application startup failed|Exiting\.?$|^SystemExit|^error: (?:unable|failed) to load model$`)
	// leaving is said on the way out.
	leaving = lazyregexp.New(`cleaning up before exit|(?i:shutting down|shutdown|finished server process|terminating|received signal|received SIG|exiting\b)`)
)

var levels = map[string]level{
	"T": debug, "D": debug, "I": info, "W": warning, "E": failure, "TRACE": debug, "DEBUG": debug, "INFO": info, "WARN": warning, "WARNING": warning,
	"ERROR": failure, "CRITICAL": failure, "FATAL": failure,
}

// Text is a line of a log without the mark of its level, its time and who speaks.
func Text(line string) string { return strings.TrimSpace(read(line).text) }

// read takes the mark of its level off a line.
func read(raw string) line {
	l := line{raw: raw, text: raw}
	if m := llamaMark.FindStringSubmatch(raw); m != nil {
		l.level, l.text = levels[m[1]], m[2]
		return l
	}
	if m := wordMark.FindStringSubmatch(raw); m != nil {
		l.level, l.text = levels[m[2]], m[3]
		return l
	}
	if m := keyMark.FindStringSubmatch(raw); m != nil {
		l.level = levels[strings.ToUpper(m[1])]
		return l
	}
	l.text = raw[len(speaker.FindString(raw)):]
	return l
}
