package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"baton/master"
)

// verifier looks for what is wrong in a file whose keys are known and of the right types. Paths are absolute already.
type verifier struct {
	*File
	x     *Index
	found []finding
}

func (v *verifier) verify() {
	v.numbers("", reflect.ValueOf(v.File).Elem())
	if n, ok := v.Workers.(int64); ok {
		if what, why := beyond("Workers", "workers", n); what != "" {
			v.wrong("workers", cmp.Or(why, `"auto" takes the CPUs that baton may use`), "%s", what)
		}
	}
	v.oneOf("log_format", v.LogFormat, "text", "json")
	v.user()
	v.listens()
	v.routes()
}

// wrong notes a mistake at the value of a path.
func (v *verifier) wrong(path, hint, format string, args ...any) {
	v.found = append(v.found, v.x.wrong(path, fmt.Sprintf(format, args...), hint))
}

// oneOf checks a word; "" is the default.
func (v *verifier) oneOf(path, word string, known ...string) bool {
	if word == "" || slices.Contains(known, word) {
		return true
	}
	hint := DidYouMean(word, known)
	if hint == "" {
		hint = "there are " + strings.Join(known, ", ")
	}
	key := path[strings.LastIndexByte(path, '.')+1:]
	v.wrong(path, hint, "%s: there is no %q", key, word)
	return false
}

// user looks user and group up, here and nowhere else.
func (v *verifier) user() {
	if v.User == "" && v.Group != "" {
		v.wrong("group", "it goes with a user", "group: there is no user")
	}
	if v.User == "" {
		return
	}
	u, err := master.LookupUser(v.User, v.Group)
	var le *master.LookupError
	switch {
	case errors.As(err, &le) && le.Group:
		v.wrong("group", "", "%v", err)
	case err != nil:
		v.wrong("user", "", "%v", err)
	default:
		v.runAs = u
	}
}

// twice reports the second of two equal values, and whether it is one. seen maps them to the path of the first.
func (v *verifier) twice(seen map[string]string, value, path, what string) bool {
	first, ok := seen[value]
	if !ok {
		seen[value] = path
		return false
	}
	v.wrong(path, "", "%s: the same as in line %d", what, v.x.line(first))
	return true
}
