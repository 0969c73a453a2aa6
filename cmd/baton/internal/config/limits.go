package config

import (
	"fmt"
	"reflect"

	"baton/master"
)

// forEver bounds durations for the reason that master's are bounded.
const forEver = "a year is as good as for ever"

// orForEver is of a duration that may be 0s: none.
var orForEver = master.Limit{Duration: true, Zero: true, Min: 1, Max: master.LongestDuration, MaxWhy: forEver + ", which is 0s"}

// limits are those of the numbers that only workers know, by the names of [HTTP]'s and [Route]'s fields. The others are
// master's, see [master.LimitOf].
var limits = map[string]master.Limit{
	"ReceiveTimeout":  {Duration: true, Min: 1, Max: master.LongestDuration, MaxWhy: forEver},
	"IdleTimeout":     {Duration: true, Min: 1, Max: master.LongestDuration, MaxWhy: forEver},
	"BodyTimeout":     orForEver,
	"SendTimeout":     orForEver,
	"UpstreamTimeout": orForEver,
	"MaxHeaderSize":   {Min: 1, Max: 16 << 20, MaxWhy: "each connection may take so much memory"},
	"Delay":           {Duration: true, Zero: true, Min: 1, Max: master.LongestDuration, MaxWhy: forEver},
}

// LimitOf is the limit of a field of [File] or of one of its tables.
func LimitOf(field string) master.Limit {
	l, ok := limits[field]
	if !ok {
		l, _ = master.LimitOf(field)
	}
	return l
}

// beyond says what is wrong with a number, or "", and why.
func beyond(field, key string, n int64) (what, why string) {
	l := LimitOf(field)
	want, why := l.Check(n)
	if want == "" {
		return "", ""
	}
	return fmt.Sprintf("%s: %s, want %s", key, l.Text(n), want), why
}

// number checks the value of a field of the file, which is at path, and is called key.
func (v *verifier) number(path, field, key string, n int64) {
	if what, why := beyond(field, key, n); what != "" {
		v.wrong(path, why, "%s", what)
	}
}

// numbers checks those of a table: t is the file, or a struct in it, and prefix is what keys in it begin with.
func (v *verifier) numbers(prefix string, t reflect.Value) {
	for i := range t.NumField() {
		field, key := t.Type().Field(i), prefix+t.Type().Field(i).Tag.Get("toml")
		switch {
		case t.Field(i).CanInt():
			v.number(key, field.Name, key, t.Field(i).Int())
		case field.Type.Kind() == reflect.Struct:
			v.numbers(key+".", t.Field(i))
		}
	}
}
