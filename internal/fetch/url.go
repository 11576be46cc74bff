package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
)

// CheckURL refuses what is not https, but for http to a loopback address.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("the URL cannot be read") // its text may hold a secret
	}
	return checkURL(u)
}

func checkURL(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return fmt.Errorf("%q names no host", redact(u))
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q is not https, which only a loopback address may do without", redact(u))
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// Redact leaves out the parts of a URL that may hold a secret: user, query and fragment.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "a URL that cannot be read"
	}
	return redact(u)
}

func redact(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return shown.String()
}

// sameHost reports whether credentials for one URL may go to the other.
func sameHost(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Hostname() == b.Hostname() && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	p, _ := net.LookupPort("tcp", u.Scheme)
	return fmt.Sprint(p)
}

// bare leaves out the URL that net/http puts into its errors: a redirect's is signed.
func bare(err error) error {
	for {
		var e *url.Error
		if !errors.As(err, &e) {
			return err
		}
		err = e.Err
	}
}
