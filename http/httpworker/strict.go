package httpworker

import (
	"bytes"
	"net/http"
)

// faults are what net/http takes without a word, and other servers and proxies take otherwise: who writes such a header may
// want one of them to see two requests where another one sees one. Such requests are refused, whatever they mean.
// What net/http refuses itself is not looked for.
//
// (https://www.rfc-editor.org/rfc/rfc9112#section-11.2)
type faults uint8

const (
	faultBareLF     faults = 1 << iota // a line that ends without CR
	faultFold                          // a line that goes on in the next one
	faultNoName                        // a field without a name
	faultTwoLengths                    // though they may be the same
	hasLength                          // a fault only together with the next one
	hasCoding
	takesOver // no fault: what follows the request may be another protocol
)

// noFaults are those that alone are none.
const noFaults = hasLength | hasCoding | takesOver

// refusal says why a request is refused, or "".
func (f faults) refusal(r *http.Request) string {
	switch {
	case f&^noFaults == 0 && f&hasCoding == 0:
		return ""
	case f&faultBareLF != 0:
		return "a line of the header does not end with CR LF"
	case f&faultFold != 0:
		return "a line of the header begins with a space"
	case f&faultNoName != 0:
		return "a field of the header has no name"
	case f&faultTwoLengths != 0:
		return "there are two Content-Length fields"
	case f&hasLength != 0:
		return "there are Content-Length and Transfer-Encoding"
	case !r.ProtoAtLeast(1, 1):
		return "Transfer-Encoding is not known in HTTP/1.0"
	}
	return ""
}

// The fields that say where a request ends.
const (
	fieldLength = "content-length:"
	fieldCoding = "transfer-encoding:"
	fieldOther  = "upgrade:"
	longestName = len(fieldCoding)
)

// look judges a line of a header, of which start is the beginning, at least longestName bytes of it or all. cr says whether
// it ends with CR.
func (f *faults) look(start []byte, cr, first bool) {
	if !cr {
		*f |= faultBareLF
	}
	switch {
	case first && bytes.HasPrefix(start, []byte("CONNECT ")):
		*f |= takesOver
		return
	case first, len(start) == 0:
		return
	}
	switch start[0] {
	case ' ', '\t':
		*f |= faultFold
	case ':':
		*f |= faultNoName
	case 'c', 'C':
		if !isField(start, fieldLength) {
			return
		}
		if *f&hasLength != 0 {
			*f |= faultTwoLengths
		}
		*f |= hasLength
	case 'u', 'U':
		if isField(start, fieldOther) {
			*f |= takesOver
		}
	case 't', 'T':
		if isField(start, fieldCoding) {
			*f |= hasCoding
		}
	}
}

func isField(line []byte, name string) bool {
	return len(line) >= len(name) && bytes.EqualFold(line[:len(name)], []byte(name))
}
