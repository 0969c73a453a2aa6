package master

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// id runs id(1), which asks initgroups(3)'s data.
func id(t *testing.T, args ...string) []int {
	t.Helper()
	out, err := exec.Command("id", args...).Output()
	if err != nil {
		t.Fatalf("id %v: %v", args, err)
	}
	var all []int
	for _, f := range strings.Fields(string(out)) {
		n := 0
		if _, err := fmt.Sscan(f, &n); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// TestLookupUser compares with id(1) for every user of this machine.
func TestLookupUser(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		name, _, _ := strings.Cut(line, ":")
		if name == "root" || strings.HasPrefix(name, "#") || strings.TrimSpace(name) == "" {
			continue
		}
		u, err := LookupUser(name, "")
		if err != nil {
			t.Error(err)
			continue
		}
		groups := slices.Sorted(slices.Values(u.Groups))
		if uid, gid := id(t, "-u", name)[0], id(t, "-g", name)[0]; u.UID != uid || u.GID != gid || u.Name != name ||
			!reflect.DeepEqual(groups, id(t, "-G", name)) {
			t.Errorf("%+v, but id says %d, %d, %v", u, uid, gid, id(t, "-G", name))
		}
		byNumber, err := LookupUser(fmt.Sprint(u.UID), "")
		if err != nil || byNumber.UID != u.UID || byNumber.GID != u.GID {
			t.Errorf("by number: %+v, %v", byNumber, err)
		}
		other, err := LookupUser(name, "4712")
		if err != nil || other.UID != u.UID || other.GID != 4712 || !slices.Contains(other.Groups, 4712) {
			t.Errorf("%+v, %v", other, err)
			continue
		}
		for _, g := range other.Groups {
			if g != 4712 && !slices.Contains(u.Groups, g) {
				t.Errorf("%s in group %d: %v, and otherwise %v", name, 4712, other.Groups, u.Groups)
			}
		}
	}
}

func TestLookupUserByNumber(t *testing.T) {
	t.Parallel()
	u, err := LookupUser("4711", "4712")
	if want := (&User{UID: 4711, GID: 4712, Groups: []int{4712}, Name: "4711"}); err != nil ||
		!reflect.DeepEqual(u, want) {
		t.Errorf("%+v, %v", u, err)
	}
	for _, tt := range []struct {
		user, group string
		inGroup     bool
	}{
		{"4711", "", false},
		{"nobody-is-called-this", "", false},
		{"4711", "nobody-is-called-this", true},
		{"4294967295", "4711", false}, // -1: the kernel would leave the user as it is
		{"4711", "4294967295", true},
		{"0", "4711", false},
		{"root", "", false},
		{"", "", false},
	} {
		u, err := LookupUser(tt.user, tt.group)
		var le *LookupError
		if !errors.As(err, &le) || le.Group != tt.inGroup || exitCode(err) != exitUser {
			t.Errorf("%s, %s: %+v, %v", tt.user, tt.group, u, err)
		}
	}
}

func TestMayStart(t *testing.T) {
	t.Parallel()
	var none *User
	if err := none.MayStart(); err != nil {
		t.Error(err)
	}
	for _, u := range []User{{}, {UID: 0, GID: 4711}, {UID: -1, GID: 4711}, {UID: 4711, GID: -1}} {
		if err := u.MayStart(); err == nil || exitCode(err) != exitUser {
			t.Errorf("%+v: %v", u, err)
		}
	}
	self := User{UID: os.Getuid(), GID: os.Getgid(), Name: "me"}
	if self.UID != 0 {
		if err := self.MayStart(); err != nil {
			t.Error(err)
		}
	}
	other := User{UID: self.UID + 1, GID: self.GID, Name: "other"}
	if err := other.MayStart(); (err == nil) != (os.Geteuid() == 0) || err != nil && exitCode(err) != exitSystem {
		t.Error(err)
	}
}
