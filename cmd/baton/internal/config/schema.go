package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A schema is every key that there is, as the fields of [File] say: from listen.tls.cert to its type.
type schema struct {
	types map[string]reflect.Type
	keys  []string // of types, as they are documented
}

func fileSchema() *schema {
	s := &schema{types: map[string]reflect.Type{}}
	s.addFields("", reflect.TypeFor[File]())
	return s
}

func (s *schema) addFields(prefix string, t reflect.Type) {
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			continue
		}
		name := prefix + t.Field(i).Tag.Get("toml")
		ft := t.Field(i).Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		s.types[name] = ft
		s.keys = append(s.keys, name)
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			s.addFields(name+".", ft)
		}
	}
}

// check finds unknown keys and values of the wrong type. What is inside of such is not looked at, and nobody reads the
// words about more than the first of them.
func (s *schema) check(x *Index) []finding {
	var all []finding
	bad := map[string]bool{} // paths
	for _, e := range x.entries {
		if inside(e.path, bad) || s.right(e) {
			continue
		}
		bad[e.path] = true
		switch {
		case len(all) >= mostMistakes:
			all = append(all, finding{at: e.key})
		case s.types[e.field] == nil:
			all = append(all, finding{e.key, s.unknown(e), s.hint(e)})
		default:
			what, hint := s.wrong(e)
			all = append(all, x.wrong(e.path, what, hint))
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

// right reports whether there is such a key, with a value of its type.
func (s *schema) right(e entry) bool {
	if s.types[e.field] == nil {
		return false
	}
	what, _ := s.wrong(e)
	return what == ""
}

// wrong says what is wrong with an entry that there is, or "".
func (s *schema) wrong(e entry) (what, hint string) {
	for table := parent(e.field); table != ""; table = parent(table) {
		if s.types[table].Kind() == reflect.Slice && strings.HasPrefix(e.path, table+".") && !isMember(e.path[len(table)+1:]) {
			return fmt.Sprintf("%s: which of the %s tables?", e.field, table), fmt.Sprintf("write %s, with double brackets, before", s.brackets(table))
		}
	}
	return wrongType(e, s.types[e.field])
}

// isMember reports whether a path goes on with the number of a member.
func isMember(path string) bool { return path[0] >= '0' && path[0] <= '9' }

func (s *schema) unknown(e entry) string {
	what, name := "key", e.field
	if e.kind == unstable.Table || e.kind == unstable.ArrayTable {
		what = "table"
	}
	if !strings.Contains(name, `"`) {
		name = strconv.Quote(name)
	}
	return fmt.Sprintf("unknown %s %s", what, name)
}

// hint names what was probably meant: a key of the same table that is written almost so, or the same key of another. If
// there is none, it lists what there is.
func (s *schema) hint(e entry) string {
	table, key := parent(e.field), e.field[strings.LastIndexByte(e.field, '.')+1:]
	if unquoted, err := strconv.Unquote(e.field); err == nil && s.types[unquoted] != nil {
		return "write it without quotes: in them a dot separates nothing"
	}
	var siblings []string
	elsewhere := ""
	for _, f := range s.keys {
		leaf := f[strings.LastIndexByte(f, '.')+1:]
		if parent(f) == table {
			siblings = append(siblings, leaf)
		} else if leaf == key && elsewhere == "" {
			elsewhere = f
		}
	}
	switch meant := DidYouMean(key, siblings); {
	case elsewhere != "" && parent(elsewhere) == "":
		return fmt.Sprintf("%s belongs to the top of the file, before the first [table]", key)
	case elsewhere != "":
		return fmt.Sprintf("%s belongs to the table %s", key, s.brackets(parent(elsewhere)))
	case meant != "" || len(siblings) == 0:
		return meant
	default:
		return "there are " + strings.Join(siblings, ", ")
	}
}

// brackets is how the header of a table is written.
func (s *schema) brackets(table string) string {
	if s.types[table].Kind() == reflect.Slice {
		return "[[" + table + "]]"
	}
	return "[" + table + "]"
}

// wrongType says what is wrong with an entry that should be a t, or "".
func wrongType(e entry, t reflect.Type) (what, hint string) {
	key := e.field
	switch {
	case t == reflect.TypeFor[Duration]():
		return wrongDuration(e)
	case t.Kind() == reflect.Interface: // workers
		return wrongWorkers(e)
	case t.Kind() == reflect.String && e.kind != unstable.String:
		return fmt.Sprintf("%s: %s, want a text in quotes", key, describe(e)), ""
	case t.Kind() == reflect.Int && e.kind != unstable.Integer:
		return fmt.Sprintf("%s: %s, want a whole number", key, describe(e)), ""
	case t.Kind() == reflect.Bool && e.kind != unstable.Bool:
		return fmt.Sprintf("%s: %s, want true or false", key, describe(e)), ""
	case t.Kind() == reflect.Struct && e.kind != unstable.Table && e.kind != unstable.InlineTable:
		return fmt.Sprintf("%s: %s, want a table", key, describe(e)), fmt.Sprintf("write [%s] on a line of its own", key)
	case t.Kind() == reflect.Slice && !isTables(e):
		return fmt.Sprintf("%s: %s, want any number of tables", key, describe(e)), fmt.Sprintf("write [[%s]], with double brackets", key)
	}
	return "", ""
}

// isTables is true for [[listen]], for listen = […], and for every member of the latter that is a table.
func isTables(e entry) bool {
	switch e.kind {
	case unstable.ArrayTable:
		return true
	case unstable.InlineTable:
		return e.member
	default:
		return e.kind == unstable.Array && !e.member
	}
}

func wrongDuration(e entry) (what, hint string) {
	if e.kind != unstable.String {
		return fmt.Sprintf("%s: %s, want a duration in quotes", e.field, describe(e)), `as "90s", "1m30s" or "500ms"`
	}
	if _, err := time.ParseDuration(e.text); err != nil {
		hint = `as "90s", "1m30s" or "500ms"`
		if strings.TrimLeft(e.text, "0123456789") == "" && e.text != "" {
			hint = fmt.Sprintf("which unit? as \"%ss\" or \"%sms\"", e.text, e.text)
		}
		return fmt.Sprintf("%s: %q is no duration", e.field, e.text), hint
	}
	return "", ""
}

func wrongWorkers(e entry) (what, hint string) {
	if e.kind == unstable.Integer || e.kind == unstable.String && e.text == "auto" {
		return "", ""
	}
	if e.kind == unstable.String && strings.Trim(e.text, "0123456789") == "" && e.text != "" {
		hint = "write it without quotes"
	}
	return fmt.Sprintf("%s: %s, want a whole number or \"auto\"", e.field, describe(e)), hint
}

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
