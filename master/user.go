package master

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"baton/master/internal/spawn"
)

// User is the user of the workers: in numbers, because no process of the tree looks names up. The workers have no
// capabilities, and no_new_privs: nothing that they execute gives them more.
//
// Only root, with the capabilities SETUID and SETGID, can set another user. Root itself cannot be set.
type User struct {
	UID, GID int

	// Groups are all supplementary groups of the workers.
	Groups []int

	// Name is for messages.
	Name string
}

// LookupUser finds a user and a group by their names, or by numbers. An empty group is the user's own. The
// supplementary groups are those of initgroups(3): the group, and those of which the user is a member. A number without
// an entry in the user database needs a group, and has no other. An error is a [*LookupError].
func LookupUser(name, group string) (*User, error) {
	known, err := findUser(name)
	if err != nil {
		return nil, &LookupError{Err: err}
	}
	if known.Uid == "0" {
		return nil, &LookupError{
			Err: fmt.Errorf("%q is root; without a user, workers run as the user who starts the program", name),
		}
	}
	if group != "" {
		if known.Gid, err = findGroup(group); err != nil {
			return nil, &LookupError{Group: true, Err: err}
		}
	}
	if known.Gid == "" {
		return nil, &LookupError{Err: fmt.Errorf("%s is no user's number; it needs a group", name)}
	}
	ids := []string{known.Gid}
	if known.Username != "" {
		if ids, err = known.GroupIds(); err != nil { // of Gid and the name, as initgroups(3)
			return nil, &LookupError{Err: fmt.Errorf("groups of %q: %w", name, err)}
		}
	}
	return newUser(known, name, ids)
}

// LookupError says which of the two names does not exist.
type LookupError struct {
	Group bool
	Err   error
}

// Error is one line that begins with "user: " or "group: ".
func (e *LookupError) Error() string {
	if e.Group {
		return "group: " + e.Err.Error()
	}
	return "user: " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *LookupError) Unwrap() error { return e.Err }

// ExitCode returns that of a user's mistake.
func (e *LookupError) ExitCode() int { return exitUser }

// findUser prefers a name to a number, as chown(1) does. Of a number without an entry only Uid is set.
func findUser(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if err == nil {
		return u, nil
	}
	if !isID(name) {
		return nil, notFound("user", name, err)
	}
	if u, err := user.LookupId(name); err == nil {
		return u, nil
	}
	return &user.User{Uid: name}, nil
}

func findGroup(name string) (gid string, err error) {
	g, err := user.LookupGroup(name)
	if err == nil {
		return g.Gid, nil
	}
	if isID(name) {
		return name, nil
	}
	return "", notFound("group", name, err)
}

// notFound tells a name that does not exist from a failure to look it up.
func notFound(what, name string, err error) error {
	var u user.UnknownUserError
	var g user.UnknownGroupError
	if errors.As(err, &u) || errors.As(err, &g) {
		return fmt.Errorf("there is no %s %q", what, name)
	}
	return fmt.Errorf("look up %q: %w", name, err)
}

// isID reports whether s is a user's number. -1 in 32 bits means "unchanged" to the kernel.
func isID(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && n < 1<<32-1
}

func newUser(known *user.User, name string, groups []string) (*User, error) {
	u := &User{Name: name}
	for _, id := range append([]string{known.Uid, known.Gid}, groups...) {
		n, err := strconv.Atoi(id)
		if err != nil {
			return nil, &LookupError{Err: fmt.Errorf("%q: %w", name, err)}
		}
		u.Groups = append(u.Groups, n)
	}
	u.UID, u.GID, u.Groups = u.Groups[0], u.Groups[1], u.Groups[2:]
	return u, nil
}

// MayStart says why this process could not start workers as u, or nil.
func (u *User) MayStart() error {
	if u == nil {
		return nil
	}
	if u.UID <= 0 || u.GID < 0 {
		return userError(fmt.Sprintf("config: user: workers cannot run as user %d, group %d", u.UID, u.GID))
	}
	if err := spawn.MayBecome(*u.spawn()); err != nil {
		return fmt.Errorf("user %s: %w", u.Name, err)
	}
	return nil
}

// As calls f with the workers' access to files. If u is nil, or this process may not become u, it just calls f.
func (u *User) As(f func() error) error {
	if u == nil {
		return f()
	}
	return spawn.As(*u.spawn(), f)
}

func (u *User) spawn() *spawn.User {
	if u == nil {
		return nil
	}
	return &spawn.User{UID: u.UID, GID: u.GID, Groups: u.Groups}
}
