package main

import (
	"fmt"
	"strings"

	"baton/master/mastertest"
)

// site is the config as it is now.
type site struct {
	web, slots, tls string // addresses: a shared socket, one with reuse_port, and TLS
	extra           string // an address that comes and goes; empty: it is not there
	workers         int
	edits           int // what /text answers: the number of edits

	programs []program
	broken   bool // the first of them
}

func newSite() (site, error) {
	programs, err := findPrograms()
	if err != nil {
		return site{}, err
	}
	s := site{workers: 2, programs: programs}
	for _, address := range []*string{&s.web, &s.slots, &s.tls} {
		if *address, err = mastertest.PickPort(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// String is the config file. It is watched, so that what is edited is applied by itself.
func (s site) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# edit %d\nworkers = %d\ndrain_timeout = \"30s\"\nstop_timeout = \"8s\"\nmax_requests = 20000\n",
		s.edits, s.workers)
	fmt.Fprintf(&b, "[[listen]]\nname = \"web\"\naddress = %q\n", s.web)
	fmt.Fprintf(&b, "[[listen]]\nname = \"slots\"\naddress = %q\nreuse_port = true\n", s.slots)
	fmt.Fprintf(&b,
		"[[listen]]\nname = \"tls\"\naddress = %q\ntransport = \"tls\"\n"+
			"tls = { cert = \"cert.pem\", key = \"key.pem\" }\n", s.tls)
	if s.extra != "" {
		fmt.Fprintf(&b, "[[listen]]\nname = \"extra\"\naddress = %q\n", s.extra)
	}
	b.WriteString("[http]\nidle_timeout = \"25s\"\n")
	route := func(path, what string) { fmt.Fprintf(&b, "[[route]]\npath = %q\n%s\n", path, what) }
	route("/", "whoami = true")
	route("/echo", "echo = true")
	route("/text", fmt.Sprintf("respond = \"%d\"", s.edits))
	route("/files/", "static = \"files\"")
	for i, p := range s.programs {
		b.WriteString(p.config(s.broken && i == 0))
	}
	return b.String()
}
