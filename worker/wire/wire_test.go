package wire

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

// messages are all that can be said. TestEveryMessageIsListed keeps it so.
var messages = []Message{
	&Hello{}, &Welcome{}, &Refused{}, &Item{}, &End{}, &Put{}, &Drop{}, &Preparing{}, &Commit{}, &Committed{}, &Serving{},
	&Superseded{}, &Left{}, &Alone{}, &Fail{}, &Request{}, &Reload{}, &Upgrading{}, &UpgradeFailed{}, &Oldest{}, &Cut{},
	&StatusRequest{}, &StatusAnswer{}, &Exited{}, &Gone{}, &Kill{}, &Stop{}, &Resize{}, &Reopen{}, &Reopened{}, &Compare{}, &Compared{},
	&Setup{}, &Ready{}, &Go{}, &Due{}, &Drain{}, &StatsRequest{}, &AcceptAlso{}, &AcceptNoMore{}, &Listening{}, &Sockets{},
	&Stats{}, &Bye{}, &LogFile{}, &Tickets{}, &Takes{}, &Takers{}, &Share{}, &Handover{}, &Ack{}, &Withdrawn{},
}

func TestEveryMessageIsListed(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, m := range messages {
		listed[reflect.TypeOf(m).Elem().Name()] = true
	}
	for _, name := range typesWithKind(t) {
		if !listed[name] {
			t.Errorf("%s has a Kind, and is not in messages", name)
		}
	}
}

// typesWithKind are the receivers of all methods of this package that are called Kind.
func typesWithKind(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "Kind" {
				names = append(names, f.Recv.List[0].Type.(*ast.Ident).Name)
			}
		}
	}
	if len(names) < 20 {
		t.Fatalf("only %v have a Kind", names)
	}
	return names
}

func TestKindsAreDistinct(t *testing.T) {
	t.Parallel()
	of := map[string]Message{}
	for _, m := range messages {
		if m.Kind() == "" {
			t.Errorf("%T has no kind", m)
		}
		if other, ok := of[m.Kind()]; ok {
			t.Errorf("%T and %T are both %q", other, m, m.Kind())
		}
		of[m.Kind()] = m
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, m := range messages {
		t.Run(m.Kind(), func(t *testing.T) {
			t.Parallel()
			sent, got := filled(m), empty(m)
			f := packed(t, sent)
			if err := f.Check(); err != nil {
				t.Error(err)
			}
			if f.T != m.Kind() {
				t.Errorf("kind %q", f.T)
			}
			if err := f.Into(got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(sent, got) {
				t.Errorf("sent %+v, got %+v", sent, got)
			}
		})
	}
}

// A zero message must not be taken for one that keeps what the receiver had before.
func TestRoundTripOfZero(t *testing.T) {
	t.Parallel()
	for _, m := range messages {
		got := empty(m)
		if err := packed(t, empty(m)).Into(got); err != nil {
			t.Errorf("%s: %v", m.Kind(), err)
		}
		if !reflect.DeepEqual(empty(m), got) {
			t.Errorf("%s: got %+v", m.Kind(), got)
		}
	}
}

func TestWorkerRecord(t *testing.T) {
	t.Parallel()
	var sent, got WorkerRecord
	fill(reflect.ValueOf(&sent).Elem())
	b, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(sent, got) {
		t.Errorf("sent %+v, got %+v", sent, got)
	}
	if strings.Contains(string(b), "\n") {
		t.Errorf("%q is not one line", b)
	}
}

func packed(t *testing.T, m Message) Frame {
	t.Helper()
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func empty(m Message) Message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message) }

// filled is a message of m's type, in which no field is zero.
func filled(m Message) Message {
	v := reflect.New(reflect.TypeOf(m).Elem())
	fill(v.Elem())
	return v.Interface().(Message)
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("ü \"<\n")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1<<40 + 1)
	case reflect.Uint8:
		v.SetUint(200)
	case reflect.Uint32:
		v.SetUint(1<<31 + 1)
	default:
		panic("a field of kind " + v.Kind().String())
	}
}
