package wire_test

import (
	"strings"
	"testing"

	"baton/worker/wire"
	"baton/worker/wire/wiretest"
)

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, packet := range map[string]string{
		"nothing":        "",
		"no JSON":        "GET / HTTP/1.1\r\n",
		"half a message": `{"v":1,"t":"rea`,
		"two messages":   `{"v":1,"t":"ready"}{"v":1,"t":"go"}`,
		"no kind":        `{"v":1,"m":{}}`,
		"null":           `null`,
		"a list":         `[1,"ready"]`,
		"kind no string": `{"v":1,"t":7}`,
	} {
		if f, err := wire.Decode([]byte(packet)); err == nil {
			t.Errorf("%s: is %+v", name, f)
		}
	}
}

// A newer release may say what this one does not know, and say more than it knows.
func TestDecodeOfANewerRelease(t *testing.T) {
	t.Parallel()
	f, err := wire.Decode([]byte(`{"v":2,"t":"dance","m":{"steps":3},"since":"v9"}`))
	if err != nil {
		t.Fatal(err)
	}
	if f.T != "dance" || f.V != 2 {
		t.Errorf("%+v", f)
	}
	f, err = wire.Decode([]byte(`{"v":1,"t":"note","m":{"name":"a","why":"because"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var d note
	if err := f.Into(&d); err != nil || d.Name != "a" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestCheckNamesBothVersions(t *testing.T) {
	t.Parallel()
	for _, v := range []int{0, wire.Version + 1, -1} {
		err := wire.Frame{V: v, T: "hello"}.Check()
		if err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("version %d: %v", v, err)
		}
	}
	if err := (wire.Frame{V: wire.Version, T: "hello"}).Check(); err != nil {
		t.Error(err)
	}
}

func TestIntoChecksTheKind(t *testing.T) {
	t.Parallel()
	f := wiretest.Packed(t, &note{Name: "x"})
	ready := wire.Ready{}
	if err := f.Into(&ready); err == nil {
		t.Errorf("a note was read as a ready: %v", err)
	}
}

func TestIntoRefusesAWrongBody(t *testing.T) {
	t.Parallel()
	f, err := wire.Decode([]byte(`{"v":1,"t":"note","m":{"pid":"seven"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Into(&note{}); err == nil || !strings.Contains(err.Error(), "note") {
		t.Errorf("error %v does not say which message", err)
	}
}

func TestIntoWithoutABody(t *testing.T) {
	t.Parallel()
	f, err := wire.Decode([]byte(`{"v":1,"t":"note"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Into(&note{}); err != nil {
		t.Error(err)
	}
}

func TestEncodeKeepsTheLimit(t *testing.T) {
	t.Parallel()
	around := len(`{"v":1,"t":"note","m":{"name":"","pid":0}}`)
	b, err := wire.Encode(note{Name: strings.Repeat("x", wire.MaxFrame-around)})
	if err != nil || len(b) != wire.MaxFrame {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if b, err := wire.Encode(note{Name: strings.Repeat("x", wire.MaxFrame-around+1)}); err == nil {
		t.Errorf("%d bytes were encoded, the limit is %d", len(b), wire.MaxFrame)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		b, err := wire.Encode(wiretest.Filled(m))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{"", "{}", "null", `{"t":"x","m":null}`, `{"v":1,"t":"go","m":[]}`, `{"V":1,"T":"go"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		frame, err := wire.Decode(packet)
		if err != nil {
			return
		}
		if frame.T == "" {
			t.Error("a frame without a kind")
		}
		for _, m := range messages {
			got := wiretest.Empty(m)
			if frame.Into(got) != nil {
				continue
			}
			if frame.T != m.Kind() {
				t.Errorf("a %q was read as a %q", frame.T, m.Kind())
			}
			again := wiretest.Empty(m)
			if b, err := wire.Encode(got); err == nil && len(b) > 0 {
				if err := wiretest.Packed(t, got).Into(again); err != nil {
					t.Errorf("%s: what was read cannot be said: %v", m.Kind(), err)
				}
			}
		}
	})
}
