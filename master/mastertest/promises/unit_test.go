package promises_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"baton/master/mastertest"
)

// TestUnit: systemd itself has nothing to say against the units in scripts/.
func TestUnit(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	out, err := exec.CommandContext(t.Context(), analyze, "--version").Output()
	if err != nil {
		t.Skip("systemd-analyze does not run: ", err)
	}
	version, _ := strconv.Atoi(strings.TrimPrefix(regexp.MustCompile(`systemd \d+`).FindString(string(out)),
		"systemd "))

	dir := t.TempDir()
	binary := mastertest.Build(t, mastertest.BuildOptions{})
	var units []string
	for _, name := range []string{"baton.service", "baton.socket"} {
		text, err := os.ReadFile(filepath.Join("../../../scripts", name))
		if err != nil {
			t.Fatal(err)
		}
		unit := strings.ReplaceAll(string(text), "/usr/local/bin/baton", binary)
		if version < 253 {
			unit = strings.ReplaceAll(unit, "Type=notify-reload", "Type=notify")
		}
		units = append(units, filepath.Join(dir, name))
		if err := os.WriteFile(units[len(units)-1], []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := exec.CommandContext(t.Context(), analyze,
		append([]string{"verify", "--man=no", "--recursive-errors=no"}, units...)...).CombinedOutput()
	if err != nil || len(text) > 0 {
		t.Errorf("systemd %d: %v\n%s", version, err, text)
	}
}
