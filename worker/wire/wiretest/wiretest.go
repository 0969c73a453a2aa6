// Package wiretest checks packages that have messages.
package wiretest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"

	"baton/worker/wire"
)

// Check tests that messages are all that the package of the test has, that their kinds are distinct, and that each
// arrives as it was sent.
func Check(t *testing.T, messages []wire.Message) {
	t.Run("every message is listed", func(t *testing.T) { everyMessageIsListed(t, messages) })
	t.Run("kinds are distinct", func(t *testing.T) { kindsAreDistinct(t, messages) })
	for _, m := range messages {
		t.Run(m.Kind(), func(t *testing.T) { roundTrip(t, m) })
	}
}

func everyMessageIsListed(t *testing.T, messages []wire.Message) {
	t.Helper()
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

// typesWithKind returns the receivers of all methods of this package that are called Kind.
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
	if len(names) < 15 {
		t.Fatalf("only %v have a Kind", names)
	}
	return names
}

func kindsAreDistinct(t *testing.T, messages []wire.Message) {
	t.Helper()
	of := map[string]wire.Message{}
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

func roundTrip(t *testing.T, m wire.Message) {
	t.Helper()
	sent, got := Filled(m), Empty(m)
	f := Packed(t, sent)
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
	// A zero message must not be taken for one that keeps what the receiver had before.
	got = Empty(m)
	if err := Packed(t, Empty(m)).Into(got); err != nil || !reflect.DeepEqual(Empty(m), got) {
		t.Errorf("of a zero message: got %+v, %v", got, err)
	}
}

// Packed returns a message as it arrives.
func Packed(t *testing.T, m wire.Message) wire.Frame {
	t.Helper()
	b, err := wire.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := wire.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Empty returns a zero message of the type of m.
func Empty(m wire.Message) wire.Message {
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(wire.Message)
}

// Filled returns a message of the type of m, in which no field is zero.
func Filled(m wire.Message) wire.Message {
	v := reflect.New(reflect.TypeOf(m).Elem())
	Fill(v.Elem())
	return v.Interface().(wire.Message)
}

// Fill sets everything in v.
func Fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			Fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			Fill(v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		Fill(v.Elem())
	case reflect.String:
		v.SetString("ü \"<\n")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1<<40 + 1)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Uint8:
		v.SetUint(200)
	case reflect.Uint32:
		v.SetUint(1<<31 + 1)
	default:
		panic("a field of kind " + v.Kind().String())
	}
}
