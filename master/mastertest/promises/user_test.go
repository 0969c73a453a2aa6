package promises_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// TestUser: the master binds a low port, and the workers are somebody who may do nothing. Root's own directory, which
// they cannot enter, has the binary, the config and the log.
func TestUser(t *testing.T) {
	t.Parallel()
	mastertest.NeedRoot(t)
	exclusive(t)
	port := lowPort(t)
	s := unwatchedSite(t).with(`user = "4711"`, `group = "4712"`, `log_file = "log"`)
	s.listen = append(s.listen, port, "unix:web.sock")
	s.routes = fmt.Sprintf("[[route]]\npath = \"/files\"\nstatic = %q\n", filesOf(t, 4711, 4712))
	b := start(t, s)
	if fi, err := os.Stat(b.Dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Fatalf("the directory is not closed to the workers: %v, %v", fi, err)
	}
	wantUser(t, b, 4711, 4712, "4712")
	if w, err := b.Whoami(port); err != nil {
		t.Errorf("%s: %+v, %v", port, w, err)
	}
	for _, name := range []string{"users", "groups"} {
		if text, err := b.Get(s.listen[0], "/files/"+name); err != nil || text != name {
			t.Errorf("a file that only they may read: %q, %v", text, err)
		}
	}
	if text, err := b.Get(s.listen[0], "/files/roots"); err == nil {
		t.Errorf("a file that only root may read: %q", text)
	}
	var sock unix.Stat_t
	if err := unix.Lstat(b.Path("web.sock"), &sock); err != nil || sock.Uid != 0 || sock.Mode&0o777 != 0o666 {
		t.Errorf("the Unix socket is not the master's, for all: user %d, mode %o, %v", sock.Uid, sock.Mode, err)
	}

	conns := connect(t, s.listen[0], 10)
	clients := putLoad(t, s.listen[0], load.Mix(2, 8, 8))
	for range 2 {
		b.Reload("--wait")
	}
	wantUser(t, b, 4711, 4712, "4712")
	st := b.AwaitSettled()
	b.Kill(st.MasterPID)
	b.AwaitStatus("another master",
		func(now mastertest.Status) bool { return now.MasterPID != st.MasterPID && now.Settled() })
	wantUser(t, b, 4711, 4712, "4712")

	// Another user, and none, by a reload: connections move between them.
	s.top = strings.Replace(s.top, `"4711"`, `"4721"`, 1)
	b.WriteConfig(s.String())
	b.Reload("--wait")
	wantUser(t, b, 4721, 4712, "4712")
	s.top = strings.NewReplacer(`user = "4721"`, "", `group = "4712"`, "").Replace(s.top)
	b.WriteConfig(s.String())
	b.Reload("--wait")
	for _, pid := range b.AwaitSettled().PIDs("") {
		for _, thread := range threads(t, pid) {
			if thread["Uid"] != "0 0 0 0" {
				t.Errorf("without a user: %v", thread)
			}
		}
	}
	s = s.with(`user = "4711"`, `group = "4712"`)
	b.WriteConfig(s.String())
	b.Reload("--wait")
	wantNoLoss(t, clients)
	for _, c := range conns {
		ask(t, c)
		if err := answered(c); err != nil {
			t.Errorf("a connection that was silent over all reloads: %v", err)
		}
	}

	st = b.AwaitSettled()
	b.Kill(st.Workers[0].PID)
	b.AwaitStatus("another worker", func(now mastertest.Status) bool {
		return now.Settled() && !slices.Contains(now.PIDs(""), st.Workers[0].PID)
	})
	wantUser(t, b, 4711, 4712, "4712")
	b.Stop()
	if log := b.ReadFile("log"); !strings.Contains(log, "generation serves") {
		t.Errorf("the log: %q", log)
	}
}

// filesOf makes a directory that only this user and group may enter, with a file of the user's, one of the group's, and
// one of root's.
func filesOf(t *testing.T, uid, gid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "files") //nolint:usetesting // the parent of t.TempDir is root's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, owner := range map[string][2]int{"users": {uid, 0}, "groups": {0, gid}, "roots": {0, 0}} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(name), 0o440), os.Chown(path, owner[0], owner[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, 0o750)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lowPort is an address whose port only root may bind.
func lowPort(tb testing.TB) string {
	tb.Helper()
	var err error
	for range 50 {
		address := fmt.Sprintf("127.0.0.1:%d", 600+rand.IntN(424))
		if err = mastertest.Bindable(address); err == nil {
			return address
		}
	}
	tb.Skipf("no low port can be bound here: %v", err)
	return ""
}

// threads is what the kernel says of each thread of a process: the lines of status, with single spaces.
func threads(tb testing.TB, pid int) []map[string]string {
	tb.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	var all []map[string]string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		status := map[string]string{}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			status[key] = strings.Join(strings.Fields(value), " ")
		}
		all = append(all, status)
	}
	if len(all) == 0 {
		tb.Errorf("process %d has no threads", pid)
	}
	return all
}

// wantUser waits for rest, and looks at every thread of every worker; supervisor and master are still root.
func wantUser(tb testing.TB, b *mastertest.Baton, uid, gid int, groups string) {
	tb.Helper()
	st := b.AwaitSettled()
	none := strings.Repeat("0", 16)
	want := map[string]string{
		"Uid":    strings.TrimSpace(strings.Repeat(fmt.Sprint(uid, " "), 4)),
		"Gid":    strings.TrimSpace(strings.Repeat(fmt.Sprint(gid, " "), 4)),
		"Groups": groups, "NoNewPrivs": "1", "CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none,
		"CapAmb": none,
	}
	for _, pid := range st.PIDs("") {
		for _, thread := range threads(tb, pid) {
			for key, value := range want {
				if thread[key] != value {
					tb.Errorf("worker %d, thread %s: %s is %q, want %q", pid, thread["Pid"], key, thread[key], value)
				}
			}
		}
	}
	own := mainThread(tb, os.Getpid())
	for _, pid := range []int{st.SupervisorPID, st.MasterPID} {
		if main := mainThread(tb, pid); main["Uid"] != "0 0 0 0" || main["NoNewPrivs"] != own["NoNewPrivs"] ||
			main["CapEff"] == none {
			tb.Errorf("supervisor or master: %v", main)
		}
	}
}

// mainThread is the one of threads that gives a process its number.
func mainThread(tb testing.TB, pid int) map[string]string {
	tb.Helper()
	for _, thread := range threads(tb, pid) {
		if thread["Pid"] == strconv.Itoa(pid) {
			return thread
		}
	}
	tb.Errorf("process %d is not there", pid)
	return nil
}

// TestUserByName: the groups are those that the system gives the user.
func TestUserByName(t *testing.T) {
	t.Parallel()
	mastertest.NeedRoot(t)
	name, uid, gid, groups := somebody(t)
	b := start(t, unwatchedSite(t).with(fmt.Sprintf("user = %q", name)))
	wantUser(t, b, uid, gid, groups)
	b.Stop()
}

// somebody is a user of this machine, one in several groups if there is any. What is looked up here is looked up by
// id(1).
func somebody(t *testing.T) (name string, uid, gid int, groups string) {
	t.Helper()
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(line, ":")
		if len(f) < 4 || f[2] == "0" || strings.Contains(groups, " ") {
			continue
		}
		var all []int
		for _, id := range strings.Fields(output(t, "id", "-G", f[0])) {
			all = append(all, atoi(t, id))
		}
		slices.Sort(all)
		name, uid, gid, groups = f[0], atoi(t, f[2]), atoi(t, f[3]), strings.Trim(fmt.Sprint(all), "[]")
	}
	if name == "" {
		t.Skip("this machine has only root")
	}
	return name, uid, gid, groups
}

// TestUserInContainer: with no more capabilities than a container's root usually has, so that the master cannot look
// into processes of other users. A worker of a failed reload that does not run is gone all the same, and so is one at a
// stop.
func TestUserInContainer(t *testing.T) {
	t.Parallel()
	mastertest.NeedRoot(t)
	binary := mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}})
	steps := mastertest.NewFailpoints(t)
	const few = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw," +
		"+sys_chroot,+setfcap"
	s := unwatchedSite(t).with(`user = "4711"`, `group = "4712"`, `stop_timeout = "2s"`)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Env: []string{steps.Env()}, Binary: binary,
		Shell: `exec setpriv --bounding-set=` + few + ` "$BATON" "$@"`,
	})
	wantUser(t, b, 4711, 4712, "4712")
	b.Reload("--wait")
	before := takeSnapshot(t, b)

	await := steps.HoldAt("spawned")
	b.Signal(unix.SIGHUP)
	held := await()
	for _, p := range b.Tree() {
		if p.PPID == held.PID {
			signal(t, p.PID, unix.SIGSTOP)
		}
	}
	b.Kill(held.PID)
	b.AwaitStatus("the end of the reload", func(st mastertest.Status) bool { return st.LastReload.Error != "" })
	if after := takeSnapshot(t, b); after.String() != before.String() {
		t.Errorf("a failed reload has left something:\n%v, it was\n%v", after, before)
	}
	b.Reload("--wait")
	signal(t, b.AwaitSettled().Workers[0].PID, unix.SIGSTOP)
	b.Signal(unix.SIGTERM)
	wantExit(t, b, 0, mastertest.Timeout)
}

// TestUserWhoMayNotExecute: a new binary that is only root's fails the reload, which says why.
func TestUserWhoMayNotExecute(t *testing.T) {
	t.Parallel()
	mastertest.NeedRoot(t)
	b := start(t, unwatchedSite(t).with(`user = "4711"`, `group = "4712"`))
	before := takeSnapshot(t, b)
	b.Upgrade(1) // mode 0700
	if r := b.CLI("reload"); r.Code != 1 || !strings.Contains(r.Stderr, "user 4711 may not execute the program") {
		t.Errorf("%+v", r)
	}
	if after := takeSnapshot(t, b); after.String() != before.String() {
		t.Errorf("a failed reload has left something:\n%v, it was\n%v", after, before)
	}
	if err := os.Chmod(b.Path("baton"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.Reload("--wait")
	wantUser(t, b, 4711, 4712, "4712")
	b.Stop()
}

// TestUserWithoutRoot: somebody else cannot be set, and oneself can; that takes the last privileges away.
func TestUserWithoutRoot(t *testing.T) {
	t.Parallel()
	mastertest.NeedRoot(t)
	const as4711 = `chown 4711 . site.toml; ` +
		`exec setpriv --reuid=4711 --regid=4711 --clear-groups --inh-caps=+net_raw --ambient-caps=+net_raw "$BATON" "$@"`
	t.Run("somebody else", func(t *testing.T) {
		t.Parallel()
		config := unwatchedSite(t).with(`user = "4712"`, `group = "4711"`).String()
		b := mastertest.Start(t, mastertest.Options{Config: config, Shell: as4711, NoWait: true})
		wantExit(t, b, 111, mastertest.Timeout)
		<-b.Silent()
		if !strings.Contains(b.Log(), "user 4712: only root") {
			t.Errorf("the log: %q", b.Log())
		}
		b = mastertest.Start(t, mastertest.Options{
			Config: config, Shell: as4711, NoWait: true,
			Args: []string{"check", "--config", "site.toml"},
		})
		wantExit(t, b, 0, mastertest.Timeout)
		<-b.Silent()
		if !strings.Contains(b.Log(), "warning: user 4712: only root") {
			t.Errorf("check says %q", b.Log())
		}
	})
	t.Run("oneself", func(t *testing.T) {
		t.Parallel()
		b := mastertest.Start(t, mastertest.Options{Config: unwatchedSite(t).with(`user = "4711"`,
			`group = "4711"`).String(), Shell: as4711})
		st := b.Status()
		none := strings.Repeat("0", 16)
		if master := mainThread(t, st.MasterPID); master["CapAmb"] == none {
			t.Errorf("the master has nothing that could be taken away: %v", master)
		}
		for _, pid := range st.PIDs("") {
			for _, thread := range threads(t, pid) {
				if thread["NoNewPrivs"] != "1" ||
					thread["CapInh"]+thread["CapPrm"]+thread["CapEff"]+thread["CapAmb"] != strings.Repeat(none, 4) {
					t.Errorf("a worker: %v", thread)
				}
			}
		}
		b.Reload("--wait")
		b.Stop()
	})
}

// output runs a command and returns what it says.
func output(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		tb.Fatalf("%s %v: %v", name, args, err)
	}
	return string(out)
}

func atoi(tb testing.TB, s string) int {
	tb.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
