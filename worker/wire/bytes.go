package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Marshal is json.Marshal for values that have paths in them. A path is any bytes but NUL, and JSON is UTF-8: for any
// other byte in a string package json writes U+FFFD, which is another path. Here such a byte, and NUL, is written as
// NUL and two hexadecimal digits, of which [Unmarshal] makes a byte again.
func Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || !bytes.Contains(b, []byte(`\ufffd`)) && !bytes.Contains(b, []byte(`\u0000`)) {
		return b, err
	}
	return json.Marshal(mapStrings(reflect.ValueOf(v), escape).Interface())
}

// Unmarshal reads what [Marshal] has written.
func Unmarshal(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	if bytes.Contains(b, []byte(`\u0000`)) {
		to := reflect.ValueOf(v).Elem()
		to.Set(mapStrings(to, unescape))
	}
	return nil
}

func escape(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") {
		return s
	}
	var out strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		if r == 0 || r == utf8.RuneError && size == 1 {
			out.WriteString("\x00" + hex.EncodeToString([]byte(s[i:i+1])))
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

func unescape(s string) string {
	parts := strings.Split(s, "\x00")
	for i, p := range parts[1:] {
		if b, err := hex.DecodeString(p[:min(2, len(p))]); err == nil && len(b) == 1 {
			parts[i+1] = string(b) + p[2:]
		}
	}
	return strings.Join(parts, "")
}

// mapStrings returns a copy of v in which f was called on every string that package json sees.
func mapStrings(v reflect.Value, f func(string) string) reflect.Value {
	to := reflect.New(v.Type()).Elem()
	to.Set(v)
	switch v.Kind() {
	case reflect.String:
		to.SetString(f(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			to.Set(reflect.New(v.Type().Elem()))
			to.Elem().Set(mapStrings(v.Elem(), f))
		}
	case reflect.Interface:
		if !v.IsNil() {
			to.Set(mapStrings(v.Elem(), f))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				to.Field(i).Set(mapStrings(v.Field(i), f))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			to.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		}
		for key, value := range v.Seq2() {
			to.SetMapIndex(mapStrings(key, f), mapStrings(value, f))
		}
	case reflect.Slice:
		if v.IsNil() || v.Type().Elem().Kind() == reflect.Uint8 {
			break
		}
		to.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			to.Index(i).Set(mapStrings(v.Index(i), f))
		}
	default: // no strings
	}
	return to
}
