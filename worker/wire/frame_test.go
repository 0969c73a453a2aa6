package wire

import (
	"strings"
	"testing"
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
		if f, err := Decode([]byte(packet)); err == nil {
			t.Errorf("%s: is %+v", name, f)
		}
	}
}

// A newer release may say what this one does not know, and say more than it knows.
func TestDecodeOfANewerRelease(t *testing.T) {
	t.Parallel()
	f, err := Decode([]byte(`{"v":2,"t":"dance","m":{"steps":3},"since":"v9"}`))
	if err != nil {
		t.Fatal(err)
	}
	if f.T != "dance" || f.V != 2 {
		t.Errorf("%+v", f)
	}
	f, err = Decode([]byte(`{"v":1,"t":"drop","m":{"name":"a","why":"because"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var d Drop
	if err := f.Into(&d); err != nil || d.Name != "a" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestCheckNamesBothVersions(t *testing.T) {
	t.Parallel()
	for _, v := range []int{0, Version + 1, -1} {
		err := Frame{V: v, T: "hello"}.Check()
		if err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("version %d: %v", v, err)
		}
	}
	if err := (Frame{V: Version, T: "hello"}).Check(); err != nil {
		t.Error(err)
	}
}

func TestIntoChecksTheKind(t *testing.T) {
	t.Parallel()
	f := packed(t, &Drop{Name: "x"})
	put := Put{Name: "before"}
	if err := f.Into(&put); err == nil || put.Name != "before" {
		t.Errorf("a drop was read as %+v, %v", put, err)
	}
}

func TestIntoRefusesAWrongBody(t *testing.T) {
	t.Parallel()
	f, err := Decode([]byte(`{"v":1,"t":"exited","m":{"pid":"seven"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Into(&Exited{}); err == nil || !strings.Contains(err.Error(), "exited") {
		t.Errorf("error %v does not say which message", err)
	}
}

func TestIntoWithoutABody(t *testing.T) {
	t.Parallel()
	f, err := Decode([]byte(`{"v":1,"t":"stop"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Into(&Stop{}); err != nil {
		t.Error(err)
	}
}

func TestEncodeKeepsTheLimit(t *testing.T) {
	t.Parallel()
	around := len(`{"v":1,"t":"refused","m":{"error":""}}`)
	b, err := Encode(Refused{Error: strings.Repeat("x", MaxFrame-around)})
	if err != nil || len(b) != MaxFrame {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if b, err := Encode(Refused{Error: strings.Repeat("x", MaxFrame-around+1)}); err == nil {
		t.Errorf("%d bytes were encoded, the limit is %d", len(b), MaxFrame)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		b, err := Encode(filled(m))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{"", "{}", "null", `{"t":"x","m":null}`, `{"v":1,"t":"go","m":[]}`, `{"V":1,"T":"go"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		frame, err := Decode(packet)
		if err != nil {
			return
		}
		if frame.T == "" {
			t.Error("a frame without a kind")
		}
		for _, m := range messages {
			got := empty(m)
			if frame.Into(got) != nil {
				continue
			}
			if frame.T != m.Kind() {
				t.Errorf("a %q was read as a %q", frame.T, m.Kind())
			}
			again := empty(m)
			if b, err := Encode(got); err == nil && len(b) > 0 {
				if err := packed(t, got).Into(again); err != nil {
					t.Errorf("%s: what was read cannot be said: %v", m.Kind(), err)
				}
			}
		}
	})
}
