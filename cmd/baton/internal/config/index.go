package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Index knows where in a document every key is.
type Index struct {
	name    string // of the file, for messages
	doc     string
	lines   []int // where they begin
	entries []entry
	at      map[string]int // path → the first entry of it
	members map[string]int // path of an array of tables → how many there are
}

// entry is one key, or the header of a table.
type entry struct {
	place
	kind   unstable.Kind
	text   string // of a text, number or boolean
	key    span
	value  span // empty for headers of tables
	member bool // of an array in brackets
}

// place is where in the tree of tables a key is.
type place struct {
	path  string // with numbers for the members of arrays: listen.0.tls.cert
	field string // without them: listen.tls.cert
	depth int
}

// maxDepth is how deep keys are looked into: every key that there is lies above it.
const maxDepth = 8

func (p place) below(key string) place {
	if p.depth == maxDepth {
		return p
	}
	if key == "" || strings.ContainsAny(key, ". \"") {
		key = strconv.Quote(key) // as the file has it, for its dot separates nothing
	}
	return place{strings.TrimPrefix(p.path+"."+key, "."), strings.TrimPrefix(p.field+"."+key, "."), p.depth + 1}
}

func (p place) member(i int) place { return place{fmt.Sprintf("%s.%d", p.path, i), p.field, p.depth} }

func parent(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

func leaf(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// span is a part of a document.
type span struct{ from, to int }

func spanOf(r unstable.Range) span { return span{int(r.Offset), int(r.Offset + r.Length)} }

// newIndex walks through a document. It knows the syntax, but not that a key may be there only once: decoding finds
// that, in a time that grows with the square of the keys in a table, and must therefore come after the check for
// unknown keys.
func newIndex(name string, doc []byte) (*Index, error) {
	x := &Index{name: name, doc: string(doc), lines: []int{0}, at: map[string]int{}, members: map[string]int{}}
	for i, c := range doc {
		if c == '\n' {
			x.lines = append(x.lines, i+1)
		}
	}
	var p unstable.Parser
	p.Reset(doc)
	var table place
	for p.NextExpression() {
		if n := p.Expression(); n.Kind == unstable.KeyValue {
			x.addKeyValue(table, n)
		} else {
			table = x.addHeader(n)
		}
	}
	return x, p.Error()
}

// descend follows the parts of n's key. In an array of tables it goes on in the last member, which a header of that
// array makes.
func (x *Index) descend(at place, n *unstable.Node) (place, span) {
	var sp span
	for it := n.Key(); it.Next(); {
		at = at.below(string(it.Node().Data))
		part := spanOf(it.Node().Raw)
		if sp.to == 0 {
			sp = part
		}
		sp.to = part.to
		if n.Kind == unstable.ArrayTable && it.IsLast() {
			x.members[at.path]++
		}
		if c := x.members[at.path]; c > 0 && n.Kind != unstable.KeyValue {
			at = at.member(c - 1)
		}
	}
	return at, sp
}

// addHeader adds the header of a table, and returns its place.
func (x *Index) addHeader(n *unstable.Node) place {
	at, sp := x.descend(place{}, n)
	x.add(entry{place: at, kind: n.Kind, key: sp})
	return at
}

func (x *Index) addKeyValue(at place, n *unstable.Node) {
	at, sp := x.descend(at, n)
	x.addValue(at, sp, n.Value(), false)
}

// addValue adds v and, if it is an array or a table, what is in it.
func (x *Index) addValue(at place, key span, v *unstable.Node, member bool) {
	x.add(entry{place: at, kind: v.Kind, text: string(v.Data), key: key, value: spanOf(v.Raw), member: member})
	at.depth++ // also of arrays in arrays
	if at.depth > maxDepth {
		return
	}
	i := 0
	for it := v.Children(); it.Next(); i++ {
		switch child := it.Node(); {
		case v.Kind == unstable.Array:
			x.addValue(at.member(i), key, child, true)
		case child.Kind == unstable.KeyValue:
			x.addKeyValue(at, child)
		}
	}
}

func (x *Index) add(e entry) {
	if _, ok := x.at[e.path]; !ok {
		x.at[e.path] = len(x.entries)
	}
	x.entries = append(x.entries, e)
}

// find returns the entry of a path like listen.0.address, and whether the file has it. x may be nil: there is no file.
func (x *Index) find(path string) (entry, bool) {
	if x == nil {
		return entry{}, false
	}
	i, ok := x.at[path]
	if !ok {
		return entry{}, false
	}
	return x.entries[i], true
}

// Has reports whether the file sets the key of that path. x may be nil.
func (x *Index) Has(path string) bool {
	_, ok := x.find(path)
	return ok
}

// line returns the line that an offset is in, from 1.
func (x *Index) line(offset int) int {
	i, found := slices.BinarySearch(x.lines, offset)
	if found {
		i++
	}
	return i
}

// lineOf returns the line of a key, for messages that quote it.
func (x *Index) lineOf(path string) int {
	e, _ := x.find(path)
	return x.line(e.key.from)
}

// Quote returns a key and its value as the file has them, and where. x may be nil.
func (x *Index) Quote(path string) (text string, ok bool) {
	e, ok := x.find(path)
	if !ok {
		return "", false
	}
	value := clip(x.doc[e.value.from:e.value.to])
	return fmt.Sprintf("%s:%d: %s = %s", x.name, x.line(e.key.from), e.field, value), true
}

// finding is something wrong with a part of the document; an empty part is the document itself.
type finding struct {
	at         span
	what, hint string
}

// finding returns one at the value of a path; if that has no position, at its key, and if the file does not have it, at
// the nearest table above.
func (x *Index) finding(path, what, hint string) finding {
	for p := path; p != ""; p = parent(p) {
		if e, ok := x.find(p); ok && p == path && e.value.to > 0 {
			return finding{e.value, what, hint}
		} else if ok {
			return finding{e.key, what, hint}
		}
	}
	return finding{what: what, hint: hint}
}

// errors returns the findings in the order of the file: the first of them to be read, and the rest counted.
func (x *Index) errors(all []finding) error {
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b finding) int { return a.at.from - b.at.from })
	var errs UsageErrors
	for _, f := range all[:min(len(all), maxErrors)] {
		errs.First = append(errs.First, x.usageError(f))
	}
	errs.More = len(all) - len(errs.First)
	return errs
}

// Error returns an error at the value of a path, if the file has it. x may be nil.
func (x *Index) Error(path, what, hint string) *UsageError {
	if !x.Has(path) {
		return &UsageError{What: what, Hint: hint}
	}
	return x.usageError(x.finding(path, what, hint))
}

func (x *Index) usageError(f finding) *UsageError {
	e := &UsageError{What: clip(f.what), Hint: clip(f.hint), File: x.name}
	if f.at.to > 0 {
		e.Line = x.line(f.at.from)
		e.locate(x.doc, x.lines[e.Line-1], f.at)
	}
	return e
}
