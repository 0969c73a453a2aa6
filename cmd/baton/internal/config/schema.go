package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"baton/master"
)

// A key is a key of the file, or a table.
type key struct {
	name  string // with its tables: listen.tls.cert
	typ   reflect.Type
	limit *master.Limit // of a number
	words []string      // the values of a text, if they are a few words
}

// schema returns every key, as [File] has them, and each by its name.
var schema = sync.OnceValues(func() (all []key, byName map[string]key) {
	byName = map[string]key{}
	var add func(prefix string, t reflect.Type)
	add = func(prefix string, t reflect.Type) {
		for _, f := range reflect.VisibleFields(t) {
			if !f.IsExported() {
				continue
			}
			name := prefix + f.Tag.Get("toml")
			k := key{name: name, typ: indirect(f.Type, reflect.Pointer), limit: limits[name]}
			if l, ok := master.LimitOf(f.Name); ok && prefix == "" {
				k.limit = &l
			}
			if words := f.Tag.Get("words"); words != "" {
				k.words = strings.Split(words, ",")
			}
			all, byName[k.name] = append(all, k), k
			if inner := indirect(k.typ, reflect.Slice); inner.Kind() == reflect.Struct {
				add(k.name+".", inner)
			}
		}
	}
	add("", reflect.TypeFor[File]())
	return all, byName
})

// indirect returns the type of the elements of t, if t is of that kind.
func indirect(t reflect.Type, kind reflect.Kind) reflect.Type {
	if t.Kind() == kind {
		return t.Elem()
	}
	return t
}

func lookup(name string) (key, bool) {
	_, byName := schema()
	k, ok := byName[name]
	if table, isKey := byName[parent(name)]; !ok && isKey && table.typ.Kind() == reflect.Map { // its keys are free
		return key{name: name, typ: table.typ.Elem()}, true
	}
	return k, ok
}

const forEver = "a year is as good as for ever"

// atLeast1ns and orForEver are limits of durations; orForEver is of one that 0s switches off.
var (
	atLeast1ns = master.Limit{Duration: true, Min: 1, Max: master.LongestDuration, MaxWhy: forEver}
	orForEver  = master.Limit{
		Duration: true, Zero: true, Min: 1, Max: master.LongestDuration, MaxWhy: forEver + ", which is 0s",
	}
)

// limits are those of the keys that only workers know. The others are master's.
var limits = map[string]*master.Limit{
	"http.receive_timeout":  &atLeast1ns,
	"http.idle_timeout":     &atLeast1ns,
	"http.body_timeout":     &orForEver,
	"http.send_timeout":     &orForEver,
	"http.upstream_timeout": &orForEver,
	"http.max_header_size":  {Min: 1, Max: 16 << 20, MaxWhy: "each connection may take so much memory"},
	"route.status":          {Min: 200, Max: 599},
	"route.delay":           {Duration: true, Zero: true, Min: 1, Max: master.LongestDuration, MaxWhy: forEver},
}

// LimitOf returns the limit of a key, as http.idle_timeout.
func LimitOf(name string) master.Limit {
	k, _ := lookup(name)
	return *k.limit
}

// checkKeys finds unknown keys and values of the wrong type. It does not look into them, and writes no texts about more
// than the first of them, for nobody reads those.
func checkKeys(x *Index) []finding {
	var all []finding
	bad := map[string]bool{} // paths
	for _, e := range x.entries {
		if inside(e.path, bad) {
			continue
		}
		k, known := lookup(e.field)
		var want, hint string
		if known {
			if want, hint = k.mistyped(e); want == "" {
				continue
			}
		}
		bad[e.path] = true
		switch {
		case len(all) >= maxErrors:
			all = append(all, finding{at: e.key})
		case !known:
			all = append(all, finding{e.key, unknown(e), suggest(e.field)})
		default:
			all = append(all, x.finding(e.path, want, hint))
		}
	}
	return all
}

func inside(path string, bad map[string]bool) bool {
	for p := path; p != "" && len(bad) > 0; p = parent(p) {
		if bad[p] {
			return true
		}
	}
	return false
}

// scalars are the kinds of values, and what they are called.
var scalars = map[reflect.Kind]struct {
	kind unstable.Kind
	want string
}{
	reflect.String: {unstable.String, "a text in quotes"},
	reflect.Int:    {unstable.Integer, "a whole number"},
	reflect.Bool:   {unstable.Bool, "true or false"},
}

const durationHint = `as "90s", "1m30s" or "500ms"`

// mistyped says what is wrong with the type of a value of k, or "".
func (k key) mistyped(e entry) (what, hint string) {
	for table := parent(k.name); table != ""; table = parent(table) {
		if rest, ok := strings.CutPrefix(e.path, table+"."); ok && isArray(table) && !isMember(rest) {
			return fmt.Sprintf("%s: which of the %s tables?", k.name, table),
				fmt.Sprintf("write %s, with double brackets, before", brackets(table))
		}
	}
	wrong := func(want, hint string) (string, string) {
		return fmt.Sprintf("%s: %s, want %s", k.name, describe(e), want), hint
	}
	switch kind := k.typ.Kind(); {
	case k.typ == reflect.TypeFor[Duration]():
		return k.mistypedDuration(e)
	case kind == reflect.Interface: // workers
		if e.kind == unstable.Integer || e.kind == unstable.String && e.text == "auto" {
			return "", ""
		}
		if e.kind == unstable.String && isDigits(e.text) {
			hint = "write it without quotes"
		}
		return wrong(`a whole number or "auto"`, hint)
	case k.typ == reflect.TypeFor[[]string]():
		if e.member && e.kind == unstable.String || !e.member && e.kind == unstable.Array {
			return "", ""
		}
		return wrong("texts in brackets", `as ["one", "two"]`)
	case kind == reflect.Struct || kind == reflect.Map:
		if e.kind != unstable.Table && e.kind != unstable.InlineTable {
			return wrong("a table", fmt.Sprintf("write [%s] on a line of its own", k.name))
		}
	case kind == reflect.Slice:
		if !isTables(e) {
			return wrong("any number of tables", fmt.Sprintf("write [[%s]], with double brackets", k.name))
		}
	case e.kind != scalars[kind].kind:
		return wrong(scalars[kind].want, "")
	}
	return "", ""
}

func (k key) mistypedDuration(e entry) (what, hint string) {
	if e.kind != unstable.String {
		return fmt.Sprintf("%s: %s, want a duration in quotes", k.name, describe(e)), durationHint
	}
	if _, err := time.ParseDuration(e.text); err == nil {
		return "", ""
	}
	hint = durationHint
	if isDigits(e.text) {
		hint = fmt.Sprintf("which unit? as \"%ss\" or \"%sms\"", e.text, e.text)
	}
	return fmt.Sprintf("%s: %q is no duration", k.name, e.text), hint
}

// isTables reports whether e is [[listen]], listen = […], or a table that is a member of the latter.
func isTables(e entry) bool {
	return e.kind == unstable.ArrayTable || e.member && e.kind == unstable.InlineTable ||
		!e.member && e.kind == unstable.Array
}

// isArray reports whether there may be several tables of that name.
func isArray(table string) bool {
	k, ok := lookup(table)
	return ok && k.typ.Kind() == reflect.Slice && k.typ.Elem().Kind() == reflect.Struct
}

// isMember reports whether a path goes on with the number of a member.
func isMember(path string) bool { return path[0] >= '0' && path[0] <= '9' }

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// describe names a value by its kind, and a short one by itself.
func describe(e entry) string {
	switch e.kind {
	case unstable.String:
		return fmt.Sprintf("the text %q", e.text)
	case unstable.Integer, unstable.Float:
		return "the number " + e.text
	case unstable.Bool:
		return e.text
	case unstable.Array:
		return "an array"
	case unstable.Table, unstable.InlineTable:
		return "one table"
	case unstable.ArrayTable:
		return "an array of tables"
	default:
		return "a date or time"
	}
}

func unknown(e entry) string {
	what, name := "key", e.field
	if e.kind == unstable.Table || e.kind == unstable.ArrayTable {
		what = "table"
	}
	if !strings.Contains(name, `"`) {
		name = strconv.Quote(name)
	}
	return fmt.Sprintf("unknown %s %s", what, name)
}

// suggest says what was probably meant by an unknown key: one of the same table that is written almost so, or the same
// key of another table. If there is none, it lists the keys of the table.
func suggest(field string) string {
	table, name := parent(field), leaf(field)
	if unquoted, err := strconv.Unquote(field); err == nil {
		if _, ok := lookup(unquoted); ok {
			return "write it without quotes: in them a dot separates nothing"
		}
	}
	all, _ := schema()
	var siblings []string
	for _, k := range all {
		if parent(k.name) == table {
			siblings = append(siblings, leaf(k.name))
		}
	}
	i := slices.IndexFunc(all, func(k key) bool { return leaf(k.name) == name })
	switch meant := DidYouMean(name, siblings); {
	case i >= 0 && parent(all[i].name) == "":
		return name + " belongs to the top of the file, before the first [table]"
	case i >= 0:
		return fmt.Sprintf("%s belongs to the table %s", name, brackets(parent(all[i].name)))
	case meant != "" || len(siblings) == 0:
		return meant
	default:
		return "there are " + strings.Join(siblings, ", ")
	}
}

// brackets returns how the header of a table is written.
func brackets(table string) string {
	if isArray(table) {
		return "[[" + table + "]]"
	}
	return "[" + table + "]"
}
