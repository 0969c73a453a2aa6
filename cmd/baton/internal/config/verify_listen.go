package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"baton/master"
)

func (v *verifier) listens() {
	names := map[string]string{}
	var paths []string // of the listeners that are well-formed
	var all []master.Listen
	for i, l := range v.Listen {
		path := fmt.Sprintf("listen.%d", i)
		v.tls(path, l)
		if l.ReusePort && (l.Transport == "udp" || strings.HasPrefix(l.Address, "unix:")) {
			v.wrong(path+".reuse_port", "leave it out: one socket serves all workers",
				"reuse_port: only for tcp and tls on an IP address")
		}
		if l.Transport == "udp" && l.Process != "echo" {
			v.wrong(path+".process", `process = "echo" is what there is for udp`, "process: udp carries no %s",
				cmp.Or(l.Process, "http"))
		}
		if l.Address == "" {
			v.wrong(path+".address", `as address = "127.0.0.1:8080"`, "listen: the address is missing")
			continue
		}
		if err := checkAddress(l.Address); err != nil {
			v.wrong(path+".address", `as "127.0.0.1:8080", ":8080" or "unix:/run/baton/web.sock"`, "address: %v", err)
			continue
		}
		if v.x.Has(path+".name") && v.duplicate(names, l.Name, path+".name", fmt.Sprintf("name %q", l.Name)) {
			continue
		}
		paths, all = append(paths, path+".address"),
			append(all, master.Listen{Name: l.Name, Address: l.Address, Transport: l.Transport})
	}
	for _, e := range master.CheckListen(all, "/") { // what a start would find wrong with them together
		where := ""
		if e.Other >= 0 {
			where = fmt.Sprintf(" (line %d)", v.x.lineOf(paths[e.Other]))
		}
		v.wrong(paths[e.Index], "", "%v%s", e.Err, where)
	}
}

func (v *verifier) tls(path string, l Listen) {
	switch {
	case l.TLS != nil && l.Transport != "tls":
		v.wrong(path+".tls", `transport = "tls" makes use of it`, "tls: the transport is not tls")
	case l.Transport != "tls":
	case l.TLS == nil || l.TLS.Cert == "" || l.TLS.Key == "":
		v.wrong(path+".tls", `as tls = { cert = "cert.pem", key = "key.pem" }`, "tls: needs a certificate and a key")
	default:
		v.certificate(path+".tls", l.TLS)
	}
}

// checkAddress says what is wrong with the syntax of an address.
func checkAddress(address string) error {
	if p, ok := strings.CutPrefix(address, "unix:"); ok {
		if p == "" {
			return errors.New("unix: is without a path")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port", address)
	}
	if err := CheckHost(host); err != nil {
		return err
	}
	_, err = CheckPort(port)
	return err
}

var hostName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_.])?$`)
})

// CheckHost says what is wrong with the syntax of a host; "" is every address of the machine.
func CheckHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return nil
	}
	if strings.Trim(host, "0123456789.") == "" || !hostName().MatchString(host) {
		return fmt.Errorf("%q is neither an IP address nor a name", host)
	}
	return nil
}

// CheckPort reads a port.
func CheckPort(port string) (int, error) {
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return 0, fmt.Errorf("%q is no port: want a number from 0 to 65535", port)
	}
	return n, nil
}
