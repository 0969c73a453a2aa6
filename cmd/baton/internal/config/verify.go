package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"baton/master"
)

// verifier checks the values of a file whose keys are known and of the right types, and whose paths are absolute.
type verifier struct {
	*File
	x     *Index
	found []finding
}

func (v *verifier) verify() {
	for _, e := range v.x.entries {
		v.value(e)
	}
	v.user()
	v.trusted()
	v.listens()
	v.programs()
	v.routes()
}

// wrong notes a mistake at the value of a path.
func (v *verifier) wrong(path, hint, format string, args ...any) {
	v.found = append(v.found, v.x.finding(path, fmt.Sprintf(format, args...), hint))
}

// value checks a number against its limit, and a word against those that there are.
func (v *verifier) value(e entry) {
	k, _ := lookup(e.field)
	if n, ok := e.number(); ok && k.limit != nil {
		if want, why := k.limit.Check(n); want != "" {
			if k.name == "workers" {
				why = cmp.Or(why, `"auto" takes the CPUs that baton may use`)
			}
			v.wrong(e.path, why, "%s: %s, want %s", e.field, k.limit.Text(n), want)
		}
	}
	if k.words != nil && e.text != "" && !slices.Contains(k.words, e.text) {
		hint := cmp.Or(DidYouMean(e.text, k.words), "there are "+strings.Join(k.words, ", "))
		v.wrong(e.path, hint, "%s: there is no %q", e.field, e.text)
	}
}

// number returns the value of a number, or of a duration in nanoseconds.
func (e entry) number() (n int64, ok bool) {
	if e.kind == unstable.String {
		d, err := time.ParseDuration(e.text)
		return int64(d), err == nil
	}
	n, err := strconv.ParseInt(e.text, 0, 64)
	return n, err == nil
}

// user looks user and group up, here and nowhere else.
func (v *verifier) user() {
	switch {
	case v.User != "":
		var err error
		var le *master.LookupError
		if v.runAs, err = master.LookupUser(v.User, v.Group); errors.As(err, &le) && le.Group {
			v.wrong("group", "", "%v", err)
		} else if err != nil {
			v.wrong("user", "", "%v", err)
		}
	case v.Group != "":
		v.wrong("group", "it goes with a user", "group: there is no user")
	}
}

// duplicate notes a value that seen has already, and reports whether it does. seen maps values to the path of the
// first.
func (v *verifier) duplicate(seen map[string]string, value, path, what string) bool {
	first, ok := seen[value]
	if ok {
		v.wrong(path, "", "%s: the same as in line %d", what, v.x.lineOf(first))
	} else {
		seen[value] = path
	}
	return ok
}

// Warnings returns what is allowed and hardly meant.
func (f *File) Warnings(now time.Time) []string {
	var all []string
	if f.DrainTimeout < f.HTTP.IdleTimeout {
		all = append(all, fmt.Sprintf("drain_timeout (%s) is below http.idle_timeout (%s): a reload may close idle "+
			"connections that cannot be handed over earlier than their clients expect",
			f.DrainTimeout, f.HTTP.IdleTimeout))
	}
	if err := f.runAs.MayStart(); err != nil {
		all = append(all, err.Error())
	}
	const minute = "2006-01-02 15:04 MST"
	for _, l := range f.Listen {
		date := ""
		switch t := l.TLS; {
		case t == nil:
		case !t.until.IsZero() && now.After(t.until):
			date = "has expired on " + t.until.UTC().Format(minute)
		case now.Before(t.from):
			date = "is not valid before " + t.from.UTC().Format(minute)
		}
		if date != "" {
			all = append(all, fmt.Sprintf("listener %s: the certificate in %s %s", l.Name, l.TLS.Cert, date))
		}
	}
	return all
}
