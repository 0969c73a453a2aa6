package config

import (
	"cmp"
	"fmt"
	"time"
)

// Doubts are what is allowed and hardly meant.
func (f *File) Doubts(now time.Time) []string {
	var all []string
	if f.DrainTimeout < f.HTTP.IdleTimeout {
		all = append(all, fmt.Sprintf("drain_timeout (%s) is below http.idle_timeout (%s): a reload may close idle connections "+
			"that cannot be handed over earlier than their clients expect", f.DrainTimeout, f.HTTP.IdleTimeout))
	}
	if err := f.runAs.MayStart(); err != nil {
		all = append(all, err.Error())
	}
	for _, l := range f.Listen {
		if l.TLS == nil {
			continue
		}
		if doubt := l.TLS.doubt(now); doubt != "" {
			all = append(all, fmt.Sprintf("listener %s: the certificate in %s %s", cmp.Or(l.Name, l.Address), l.TLS.Cert, doubt))
		}
	}
	return all
}

// doubt says why clients will refuse a certificate because of the date, or "".
func (t *TLS) doubt(now time.Time) string {
	const minute = "2006-01-02 15:04 MST"
	switch {
	case !t.until.IsZero() && now.After(t.until):
		return "has expired on " + t.until.UTC().Format(minute)
	case now.Before(t.from):
		return "is not valid before " + t.from.UTC().Format(minute)
	}
	return ""
}
