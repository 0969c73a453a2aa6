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
	at      map[string]int // path → entry, the first of them
	tables  map[string]int // path of an array of tables → how many there are
}

// entry is one key, or the header of a table.
type entry struct {
	path  string // with numbers for the members of arrays: listen.0.tls.cert
	field string // without them: listen.tls.cert
	kind  unstable.Kind
	text  string // of a text, number or boolean
	key   span
	value span // empty for headers of tables

	member bool // of an array in brackets
}

// span is a part of a document.
type span struct{ from, to int }

// newIndex walks through a document. It knows syntax, and not that the same key may not be there twice: decoding tells
// that, in a time that grows with the square of the keys in a table, and so unknown ones are to be found before.
func newIndex(name string, doc []byte) (*Index, error) {
	x := &Index{name: name, doc: string(doc), lines: []int{0}, at: map[string]int{}, tables: map[string]int{}}
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
			x.keyValue(table, n)
		} else {
			table = x.header(n)
		}
	}
	return x, p.Error()
}

// deepest is how deep keys are looked into: no key that there is lies so deep, and what is wrong above it has been
// found.
const deepest = 8

// place is where in the tree of tables a key is.
type place struct {
	path, field string
	depth       int
}

func (p place) below(key string) place {
	if p.depth == deepest {
		return p
	}
	if key == "" || strings.ContainsAny(key, ". \"") {
		key = strconv.Quote(key) // as the file has it, for its dot separates nothing
	}
	return place{strings.TrimPrefix(p.path+"."+key, "."), strings.TrimPrefix(p.field+"."+key, "."), p.depth + 1}
}

func (p place) member(i int) place { return place{fmt.Sprintf("%s.%d", p.path, i), p.field, p.depth} }

// header enters a table: [a.b] below an array of tables a is in the last of them.
func (x *Index) header(n *unstable.Node) place {
	var at place
	var sp span
	for it := n.Key(); it.Next(); {
		at = at.below(string(it.Node().Data))
		sp = join(sp, it.Node().Raw)
		if n.Kind == unstable.ArrayTable && it.IsLast() {
			x.tables[at.path]++
		}
		if c := x.tables[at.path]; c > 0 {
			at = at.member(c - 1)
		}
	}
	x.add(entry{path: at.path, field: at.field, kind: n.Kind, key: sp})
	return at
}

func (x *Index) keyValue(at place, n *unstable.Node) {
	var sp span
	for it := n.Key(); it.Next(); {
		at = at.below(string(it.Node().Data))
		sp = join(sp, it.Node().Raw)
	}
	x.value(at, sp, n.Value(), false)
}

// value adds v and, if it is an array or a table, what is in it.
func (x *Index) value(at place, key span, v *unstable.Node, member bool) {
	x.add(entry{
		path: at.path, field: at.field, kind: v.Kind, text: string(v.Data), key: key, value: join(span{}, v.Raw), member: member,
	})
	at.depth++ // also of arrays in arrays
	if at.depth > deepest {
		return
	}
	i := 0
	for it := v.Children(); it.Next(); i++ {
		switch child := it.Node(); {
		case v.Kind == unstable.Array:
			x.value(at.member(i), key, child, true)
		case child.Kind == unstable.KeyValue:
			x.keyValue(at, child)
		}
	}
}

func (x *Index) add(e entry) {
	if _, ok := x.at[e.path]; !ok {
		x.at[e.path] = len(x.entries)
	}
	x.entries = append(x.entries, e)
}

func join(s span, r unstable.Range) span {
	from, to := int(r.Offset), int(r.Offset+r.Length)
	if s.to > 0 {
		from = s.from
	}
	return span{from, to}
}

// find returns the entry of a path like listen.0.address, and whether the file has it.
func (x *Index) find(path string) (entry, bool) {
	i, ok := x.at[path]
	if !ok {
		return entry{}, false
	}
	return x.entries[i], true
}

// Has reports whether the file sets the key of that path.
func (x *Index) Has(path string) bool {
	_, ok := x.at[path]
	return ok
}

// wrong is a mistake at the value of a path; if that has no position, at its key, and if the file does not have it,
// at the nearest table above.
func (x *Index) wrong(path, what, hint string) finding {
	for p := path; p != ""; p = parent(p) {
		if e, ok := x.find(p); ok && p == path && e.value.to > 0 {
			return finding{e.value, what, hint}
		} else if ok {
			return finding{e.key, what, hint}
		}
	}
	return finding{what: what, hint: hint}
}

func parent(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

// finding is something wrong with a part of the document; an empty one is the document itself.
type finding struct {
	at         span
	what, hint string
}

// mistakes are the findings in the order of the file: the first of them to be read, and the rest to be counted.
func (x *Index) mistakes(all []finding) error {
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b finding) int { return a.at.from - b.at.from })
	var ms Mistakes
	for _, f := range all[:min(len(all), mostMistakes)] {
		ms.First = append(ms.First, x.mistake(f))
	}
	ms.More = len(all) - len(ms.First)
	return ms
}

// Mistake is one at the value of a path, if the file has it. x may be nil: there is no file.
func (x *Index) Mistake(path, what, hint string) *Mistake {
	if x == nil || !x.Has(path) {
		return &Mistake{What: what, Hint: hint}
	}
	return x.mistake(x.wrong(path, what, hint))
}

func (x *Index) mistake(f finding) *Mistake {
	m := &Mistake{What: clip(f.what), Hint: clip(f.hint), File: x.name}
	if f.at.to > 0 {
		m.place(x.doc, x.lines[x.lineOf(f.at.from)-1], f.at)
		m.Line = x.lineOf(f.at.from)
	}
	return m
}

// lineOf returns the line that an offset is in, from 1.
func (x *Index) lineOf(offset int) int {
	i, found := slices.BinarySearch(x.lines, offset)
	if found {
		return i + 1
	}
	return i
}

// Quote is a key and its value as the file has them, and where.
func (x *Index) Quote(path string) (text string, ok bool) {
	e, ok := x.find(path)
	if !ok {
		return "", false
	}
	return fmt.Sprintf("%s:%d: %s = %s", x.name, x.line(path), e.field, clip(x.doc[e.value.from:e.value.to])), true
}

// line is where a key is, for messages that quote it.
func (x *Index) line(path string) int {
	e, _ := x.find(path)
	return x.lineOf(e.key.from)
}
