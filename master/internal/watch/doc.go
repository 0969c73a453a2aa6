// Package watch says when files have really changed: their content, not their dates, and not before whoever writes them
// is done.
//
// It watches the folders of every link on the way to a file, because editors and configuration management replace the
// file, and a Kubernetes ConfigMap replaces a symbolic link beside it. What the events say is not looked at, except
// whether somebody writes in place: then 500 ms of quiet are awaited. A file that is not valid is read again for 2 s
// before it counts as broken. A file that is gone is no change; it is waited for.
//
// Without inotify (a network file system, a limit that is reached) it polls, and says so once.
package watch
