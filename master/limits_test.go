package master

import (
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Every number of Config has a limit, and beyond it the configuration is refused with the name and the reason.
func TestConfigWithinLimits(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Type.Kind() != reflect.Int && f.Type.Kind() != reflect.Int64 || f.Type == reflect.TypeFor[slog.Level]() {
			continue // every number is a level
		}
		l, ok := LimitOf(f.Name)
		if isDuration := f.Type == reflect.TypeFor[time.Duration](); !ok || l.Duration != isDuration || l.Min < 1 ||
			l.Max < l.Min || l.MaxWhy == "" {
			t.Errorf("%s: %+v", f.Name, l)
		}
		for v, good := range map[int64]bool{
			0: true, 1: true, l.Max: true, l.Max + 1: false, math.MaxInt64: false, -1: false, math.MinInt64: false,
		} {
			var c Config
			reflect.ValueOf(&c).Elem().Field(i).SetInt(v)
			err := c.check()
			if good != (err == nil) {
				t.Errorf("%s = %d: %v", f.Name, v, err)
			}
			if err != nil && (exitCode(err) != exitUser || !strings.HasPrefix(err.Error(), "config: "+f.Name+": ")) {
				t.Errorf("%d %v", exitCode(err), err)
			}
			if v > l.Max && !strings.HasSuffix(err.Error(), l.MaxWhy) {
				t.Errorf("no reason: %v", err)
			}
		}
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	const s = int64(time.Second)
	for _, tt := range []struct {
		name string
		v    int64
		want string
	}{
		{"MaxGenerations", 0, "at least 1"},
		{"MaxGenerations", 8, ""},
		{"MaxGenerations", math.MaxInt64, "at most 1000: each that drains is as many processes again"},
		{"WorkerCPUs", -1, "at least 0"},
		{"DrainTimeout", 0, "more than 0s"},
		{"DrainTimeout", 2562047 * 3600 * s, "at most 8760h: a year is as good as for ever"},
		{"HangTimeout", 0, ""},
		{"HangTimeout", s / 2, "at least 1s: a machine that is busy for so long would look like a hang"},
		{"HangTimeout", -s, "at least 0s"},
	} {
		want, why := limits[tt.name].Check(tt.v)
		if got := want + because(why); got != tt.want {
			t.Errorf("%s %d: %s, want %s", tt.name, tt.v, got, tt.want)
		}
	}
}
