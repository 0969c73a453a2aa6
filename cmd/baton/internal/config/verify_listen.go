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
)

func (v *verifier) listens() {
	addresses, names := map[string]string{}, map[string]string{}
	for i, l := range v.Listen {
		path := fmt.Sprintf("listen.%d", i)
		v.oneOf(path+".transport", l.Transport, "tcp", "tls", "udp")
		v.oneOf(path+".process", l.Process, "http", "echo", "websocket-echo")
		v.tls(path, l)
		if l.ReusePort && (l.Transport == "udp" || strings.HasPrefix(l.Address, "unix:")) {
			v.wrong(path+".reuse_port", "leave it out: one socket serves all workers", "reuse_port: only for tcp and tls on an IP address")
		}
		v.udp(path, l)
		if l.Address == "" {
			v.wrong(path+".address", `as address = "127.0.0.1:8080"`, "listen: the address is missing")
			continue
		}
		same, err := checkAddress(l.Address)
		if err != nil {
			v.wrong(path+".address", `as "127.0.0.1:8080", ":8080" or "unix:/run/baton/web.sock"`, "address: %v", err)
			continue
		}
		if l.Transport == "udp" {
			same = "udp/" + same
		}
		if strings.HasSuffix(same, ":0") {
			same += "#" + l.Name // the kernel chooses a port for each
		}
		v.twice(addresses, same, path+".address", "address "+l.Address)
		if v.x.Has(path + ".name") {
			v.twice(names, l.Name, path+".name", fmt.Sprintf("name %q", l.Name))
		}
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

// udp says what cannot be spoken in datagrams.
func (v *verifier) udp(path string, l Listen) {
	if l.Transport != "udp" {
		return
	}
	if l.Process != "echo" {
		v.wrong(path+".process", `process = "echo" is what there is for udp`, "process: udp carries no %s", cmp.Or(l.Process, "http"))
	}
	if strings.HasPrefix(l.Address, "unix:") {
		v.wrong(path+".address", "", "address: a Unix socket carries no udp")
	}
}

// checkAddress returns a form in which two ways to write the same address are equal.
func checkAddress(address string) (same string, err error) {
	if p, ok := strings.CutPrefix(address, "unix:"); ok {
		if p == "" {
			return "", errors.New("unix: is without a path")
		}
		return "unix:" + p, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%q is not host:port", address)
	}
	if host, err = CheckHost(host); err != nil {
		return "", err
	}
	n, err := CheckPort(port)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

var hostName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_.])?$`)
})

// CheckHost returns "" for all addresses of the machine, however they are written.
func CheckHost(host string) (string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() {
			return "", nil
		}
		return ip.Unmap().String(), nil
	}
	if host == "" {
		return "", nil
	}
	if strings.Trim(host, "0123456789.") == "" || !hostName().MatchString(host) {
		return "", fmt.Errorf("%q is neither an IP address nor a name", host)
	}
	return strings.ToLower(host), nil
}

func CheckPort(port string) (int, error) {
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return 0, fmt.Errorf("%q is no port: want a number from 0 to 65535", port)
	}
	return n, nil
}
