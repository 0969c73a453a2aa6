package master

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", in("socket"))
	if err == nil {
		t.Cleanup(func() { _ = ln.Close() })
	}
	err = errors.Join(err, os.WriteFile(in("file"), []byte("key"), 0o600),
		os.WriteFile(in("pid"), []byte("1\n"), 0o600),
		os.WriteFile(in("empty"), nil, 0o600), os.Symlink("pid", in("link")))
	if err != nil {
		t.Fatal(err)
	}
	const dirMissing = "its directory: no such file or directory"
	for _, tt := range []struct{ field, path, want string }{
		{"Control", in("new"), ""},
		{"Control", in("socket"), ""},
		{"Control", in("file"), "there is a file already"},
		{"Control", dir, "there is a directory already"},
		{"Control", in("none/c"), dirMissing},
		{"Control", in("file/c"), "not a directory"},
		{"PIDFile", in("new"), ""},
		{"PIDFile", in("pid"), ""},
		{"PIDFile", in("empty"), ""},
		{"PIDFile", in("file"), "there is a file already, and it is no PID file"},
		{"PIDFile", in("link"), "there is a symbolic link already"},
		{"PIDFile", in("none/p"), dirMissing},
		{"LogFile", in("new"), ""},
		{"LogFile", in("file"), ""},
		{"LogFile", "/dev/null", ""},
		{"LogFile", dir, "is a directory"},
		{"LogFile", in("none/l"), dirMissing},
		{"Listen", in("new"), ""},
		{"Listen", in("socket"), ""},
		{"Listen", in("file"), "there is a file already"},
		{"Listen", in("none/s"), dirMissing},
		{"Listen", "/proc/sys/s", "its directory: "},
	} {
		c := Config{Listen: []Listen{{Address: "127.0.0.1:80"}, {Address: "unix:" + in("other")}}}
		switch tt.field {
		case "Control":
			c.Control = tt.path
		case "PIDFile":
			c.PIDFile = tt.path
		case "LogFile":
			c.LogFile = tt.path
		default:
			c.Listen[1].Address = "unix:" + tt.path
		}
		errs := CheckFiles(c)
		switch {
		case tt.want == "" && len(errs) == 0:
		case len(errs) != 1 || tt.want == "":
			t.Errorf("%s %s: %v", tt.field, tt.path, errs)
		case errs[0].Field != tt.field || !strings.Contains(errs[0].Error(), tt.path+": ") ||
			!strings.Contains(errs[0].Error(), tt.want):
			t.Errorf("%s %s: %v, want %s", tt.field, tt.path, errs[0], tt.want)
		}
	}
}
