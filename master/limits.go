package master

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"baton/master/internal/control"
)

// MaxWorkers is the most workers that a configuration or a resize may ask for.
const MaxWorkers = control.MaxWorkers

// A Limit is what a number of a configuration may be; of a duration it counts nanoseconds.
type Limit struct {
	Duration bool
	Zero     bool // 0 has a meaning of its own: none, or never

	Min, Max       int64 // of any other value
	MinWhy, MaxWhy string
}

// LongestDuration bounds durations that have no closer limit: sums of them must not overflow.
const LongestDuration = int64(365 * 24 * time.Hour)

// limits are those of the numbers in [Config], by the names of its fields.
var limits = map[string]Limit{
	"Workers":        {Min: 1, Max: MaxWorkers, MaxWhy: "each is a process"},
	"WorkerCPUs":     {Zero: true, Min: 1, Max: 1024, MaxWhy: "each costs memory in every worker, used or not"},
	"DrainTimeout":   {Duration: true, Min: 1, Max: LongestDuration, MaxWhy: "a year is as good as for ever"},
	"StopTimeout":    {Duration: true, Min: 1, Max: LongestDuration, MaxWhy: "a year is as good as for ever"},
	"ReadyTimeout":   {Duration: true, Min: 1, Max: int64(time.Hour), MaxWhy: "no other reload begins before it ends"},
	"MaxGenerations": {Min: 1, Max: 1000, MaxWhy: "each that drains is as many processes again"},
	"HangTimeout": {
		Duration: true, Zero: true, Min: int64(time.Second),
		MinWhy: "a machine that is busy for so long would look like a hang",
		Max:    LongestDuration, MaxWhy: "a year is as good as never, which is 0s",
	},
	"MaxConnections": {Zero: true, Min: 1, Max: 1 << 30, MaxWhy: "no process can have more open files"},
	"MaxRequests":    {Zero: true, Min: 1, Max: 1e12, MaxWhy: "so many are as good as never, which is 0"},
	"MaxAge": {
		Duration: true, Zero: true, Min: 1, Max: LongestDuration, MaxWhy: "a year is as good as never, which is 0s",
	},
	"MaxMemory": {Zero: true, Min: 1, Max: 1 << 50, MaxWhy: "no machine has more; never is 0"},
}

// LimitOf is the limit of a number in [Config], by the name of its field. What reads configurations from files checks
// them with it, so that it can say where a mistake is. [Run] refuses what is above a limit, or below 0.
func LimitOf(field string) (Limit, bool) {
	l, ok := limits[field]
	return l, ok
}

// Check says what v should be instead, and why if that has a reason; or it returns "".
func (l Limit) Check(v int64) (want, why string) {
	switch {
	case v == 0 && l.Zero:
		return "", ""
	case v > l.Max:
		return "at most " + l.Text(l.Max), l.MaxWhy
	case v >= l.Min:
		return "", ""
	case l.Min > 1 && v > 0:
		return "at least " + l.Text(l.Min), l.MinWhy
	case l.Zero:
		return "at least " + l.Text(0), ""
	case l.Duration:
		return "more than " + l.Text(0), ""
	default:
		return "at least " + l.Text(l.Min), l.MinWhy
	}
}

// Text is v as configurations write it.
func (l Limit) Text(v int64) string {
	if l.Duration {
		text := time.Duration(v).String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		return text
	}
	return strconv.FormatInt(v, 10)
}

// check refuses numbers that are beyond their limits. That 0 is a default, and a short HangTimeout, is a program's own
// decision.
func (c *Config) check() error {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		l, ok := limits[name]
		if !ok {
			continue
		}
		n := v.Field(i).Int()
		if want, why := l.Check(n); want != "" && (n < 0 || n > l.Max) {
			return userError(fmt.Sprintf("config: %s: %s, want %s%s", name, l.Text(n), want, because(why)))
		}
	}
	return nil
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
