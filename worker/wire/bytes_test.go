package wire

import (
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"
)

// tree has strings in every place that the walk knows.
type tree struct {
	Text    string
	List    []string
	Map     map[string]string
	Pointer *string
	Body    Message
	Bytes   []byte
	Nested  []Listener
	Nothing *tree
	hidden  int
}

// item is a message of these tests.
type item struct {
	Name      string
	Data      string   `json:"data,omitempty"`
	Listeners []string `json:"listeners,omitempty"`
}

func (item) Kind() string { return "item" }

// FuzzBytes: whatever bytes are in a string come back.
func FuzzBytes(f *testing.F) {
	for _, s := range []string{
		"/run/b", "/run/b\xff", "\x00", "\x00ff", "�", "\xef\xbf", "", "a\x00f", `\ufffd \u0000`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		in := tree{
			Text: s, List: []string{s, "x"}, Map: map[string]string{s: s}, Pointer: &s, Bytes: []byte(s),
			Body:   &item{Name: s},
			Nested: []Listener{{Key: s, Additional: true}}, hidden: 7,
		}
		b, err := Marshal(in)
		if err != nil || !utf8.Valid(b) {
			t.Fatalf("%q, %v", b, err)
		}
		out := tree{Body: &item{}, hidden: 7}
		if err := Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in, out) {
			t.Errorf("%q came back as %+v", s, out)
		}
	})
}

// TestBytesOfUTF8: what is UTF-8 looks as it does in JSON.
func TestBytesOfUTF8(t *testing.T) {
	t.Parallel()
	in := item{Name: "listen/unix/grüße\t", Data: `{"a":"\\"}`}
	b, err1 := Marshal(in)
	want, err2 := json.Marshal(in)
	if err1 != nil || err2 != nil || string(b) != string(want) {
		t.Errorf("%s, %v; want %s", b, err1, want)
	}
}

// TestFrameKeepsBytes: so do messages, also one within another.
func TestFrameKeepsBytes(t *testing.T) {
	t.Parallel()
	const path = "/b\xff/\xfe.sock"
	data, err := Marshal(item{Listeners: []string{"unix/" + path}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Encode(item{Name: path, Data: string(data)})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Decode(p)
	if err != nil {
		t.Fatal(err)
	}
	var it item
	var r item
	if err := f.Into(&it); err != nil || it.Name != path {
		t.Errorf("%+v, %v", it, err)
	}
	if err := Unmarshal([]byte(it.Data), &r); err != nil || r.Listeners[0] != "unix/"+path {
		t.Errorf("%+v, %v", r, err)
	}
}
