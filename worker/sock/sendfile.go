package sock

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// sendMost is what one sendfile(2) is asked to send.
const sendMost = 4 << 20

// ReadFrom writes what it reads from r. What is in a file does not come through this process.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if n, ok, err := c.sendFrom(r); ok {
		if err != nil {
			err = c.explain("sendfile", err)
		}
		return n, err
	}
	return io.Copy(struct{ io.Writer }{c}, r)
}

// WriteTo writes what it reads to w.
func (c *Conn) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{c}) }

// sendFrom reports false if r is nothing that can be sent so; then nothing was.
func (c *Conn) sendFrom(r io.Reader) (n int64, ok bool, err error) {
	left := int64(1<<63 - 1)
	limited, isLimited := r.(*io.LimitedReader)
	if isLimited {
		if left, r = limited.N, limited.R; left <= 0 {
			return 0, true, nil
		}
	}
	file, isFile := r.(*os.File)
	if !isFile {
		return 0, false, nil
	}
	from, err := file.SyscallConn()
	if err != nil {
		return 0, false, nil //nolint:nilerr // reading it says the same
	}
	rerr := from.Read(func(fd uintptr) bool {
		n, err = c.sendFile(int(fd), left)
		return true
	})
	if rerr != nil {
		return 0, false, nil //nolint:nilerr // as above
	}
	if isLimited {
		limited.N -= n
	}
	// A file that the kernel cannot send, or which says that it is empty, as some of proc do, is read.
	return n, n > 0 || err != nil && !unsendable(err), err
}

func unsendable(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ESPIPE)
}

// sendFile sends until the file's end, or left bytes.
func (c *Conn) sendFile(from int, left int64) (sent int64, err error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	werr := raw.Write(func(fd uintptr) bool {
		for left > 0 {
			var n int
			n, err = unix.Sendfile(int(fd), from, nil, int(min(left, sendMost)))
			switch {
			case errors.Is(err, unix.EINTR):
				err = nil
				continue
			case errors.Is(err, unix.EAGAIN):
				return false
			case err != nil || n == 0:
				return true
			}
			sent += int64(n)
			left -= int64(n)
		}
		return true
	})
	if werr != nil {
		err = werr
	}
	return sent, err
}
