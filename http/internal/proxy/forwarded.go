package proxy

import (
	"bufio"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
)

// Trusted are the proxies in front whose word about a client is taken. The zero value trusts none.
type Trusted struct {
	networks []netip.Prefix
	unix     bool
}

// ParseTrusted reads addresses, networks as 10.0.0.0/8, and "unix:", which is whoever connects to a Unix socket.
func ParseTrusted(names []string) (t Trusted, err error) {
	for _, s := range names {
		if s == "unix:" {
			t.unix = true
			continue
		}
		network, err := netip.ParsePrefix(s)
		if addr, aerr := netip.ParseAddr(s); aerr == nil {
			network, err = addr.Unmap().Prefix(addr.Unmap().BitLen())
		}
		if err != nil {
			return t, fmt.Errorf("%q is neither an IP address nor a network", s)
		}
		t.networks = append(t.networks, network)
	}
	return t, nil
}

// has reports whether ip is that of a trusted proxy; "" is the other end of a Unix socket.
func (t Trusted) has(ip string) bool {
	if ip == "" || len(t.networks) == 0 {
		return ip == "" && t.unix
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	for _, n := range t.networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// claims reports whether a field says where a request comes from. To programs that get fields as variables, as in CGI,
// X_Forwarded_For is X-Forwarded-For.
func claims(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	return strings.HasPrefix(name, "X-Forwarded-") || name == "Forwarded" || name == "X-Real-Ip"
}

// client returns the address that the request came from, "" if that is a Unix socket, and whether it is a trusted
// proxy's.
func (x *exchange) client() (ip string, trusted bool) {
	ip, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		ip = ""
	}
	return ip, x.p.Trusted.has(ip)
}

// writeForwarded says where the request came from.
func (x *exchange) writeForwarded(w *bufio.Writer) {
	var said http.Header
	if x.trusted {
		said = x.r.Header
	}
	chain := strings.Join(said["X-Forwarded-For"], ", ")
	if chain != "" && x.ip != "" {
		chain += ", "
	}
	if chain += x.ip; chain != "" {
		field(w, "X-Forwarded-For", chain)
	}
	field(w, "X-Forwarded-Host", cmp.Or(last(said["X-Forwarded-Host"]), x.r.Host))
	proto := "http"
	if x.r.TLS != nil {
		proto = "https"
	}
	field(w, "X-Forwarded-Proto", cmp.Or(last(said["X-Forwarded-Proto"]), proto))
}

// last returns what the nearest proxy has said.
func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
