package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	fileSize    = 1 << 20
	fileClients = 16
)

// compareFiles measures how fast a static file comes, and whether sendfile is in use: the same without it shows what
// that would cost.
func compareFiles(o options) error {
	content := make([]byte, fileSize)
	_, _ = rand.Read(content)
	if _, err := o.write("file.bin", content); err != nil {
		return err
	}
	baton, err := startBaton(o, batonSite{routes: fmt.Sprintf("[[route]]\npath = \"/files\"\nstatic = %q\n", o.dir)})
	if err != nil {
		return err
	}
	defer baton.stop()
	bare, err := startBare(o, "-files", o.dir)
	if err != nil {
		return err
	}
	defer bare.stop()

	sides := []struct {
		s         *server
		path      string
		rate, cpu []float64
	}{{s: baton, path: "/files/file.bin"}, {s: bare, path: "/files/file.bin"}, {s: bare, path: "/copied/file.bin"}}
	for range o.fewer(3) {
		for i := range sides {
			d := &sides[i]
			before := d.s.cpu()
			bytes, took, err := download(d.s.address, d.path, 2*o.span)
			if err != nil {
				return fmt.Errorf("%s: %w", d.s.name, err)
			}
			mb := float64(bytes) / 1e6
			d.rate = append(d.rate, mb/took.Seconds())
			d.cpu = append(d.cpu, float64((d.s.cpu()-before).Microseconds())/mb)
		}
	}
	printRows([]row{
		{
			what: "static file of 1 MB", other: "http.FileServer", unit: "MB/s", moreIsBetter: true,
			baton:  sides[0].rate,
			theirs: sides[1].rate,
		},
		{
			what: "CPU of the server, the same", other: "http.FileServer", unit: "µs/MB", baton: sides[0].cpu,
			theirs: sides[1].cpu,
		},
		{
			what: "static file of 1 MB", other: "… without sendfile", unit: "MB/s", moreIsBetter: true,
			baton: sides[0].rate, theirs: sides[2].rate,
		},
		{
			what: "CPU of the server, the same", other: "… without sendfile", unit: "µs/MB", baton: sides[0].cpu,
			theirs: sides[2].cpu,
		},
	})
	fmt.Printf("%d kept connections, whose clients drop what comes without copying it; %d rounds of %v of each side "+
		"in turn.\n", fileClients, o.fewer(3), 2*o.span)
	return nil
}

// download gets a file again and again, on some connections, and returns how many bytes came.
func download(address, path string, span time.Duration) (int64, time.Duration, error) {
	var (
		mu    sync.Mutex
		total int64
		errs  error
		wg    sync.WaitGroup
	)
	start := time.Now()
	for range fileClients {
		wg.Go(func() {
			n, err := downloader{path: path, until: start.Add(span)}.run(address)
			mu.Lock()
			defer mu.Unlock()
			total += n
			errs = errors.Join(errs, err)
		})
	}
	wg.Wait()
	return total, time.Since(start), errs
}

// downloader is a client that costs little: the kernel drops what it does not want to see.
type downloader struct {
	path  string
	until time.Time
}

func (d downloader) run(address string) (total int64, err error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // blocking
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}); err != nil {
		return 0, err
	}
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", d.path)
	for time.Now().Before(d.until) {
		if _, err := unix.Write(fd, request); err != nil {
			return total, err
		}
		n, err := d.answer(fd)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// answer reads an answer and returns its body's size, which must be the file's.
func (d downloader) answer(fd int) (int64, error) {
	buf := make([]byte, 256<<10) // with MSG_TRUNC, nothing is written there
	var head []byte
	end := -1
	for end < 0 {
		n, err := unix.Read(fd, buf[:2048])
		if err != nil || n == 0 {
			return 0, errors.Join(errors.New("no answer"), err)
		}
		head = append(head, buf[:n]...)
		end = bytes.Index(head, []byte("\r\n\r\n"))
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) ||
		!bytes.Contains(head[:end], []byte("Content-Length: "+strconv.Itoa(fileSize))) {
		return 0, fmt.Errorf("unexpected answer %q", head[:end])
	}
	left := fileSize - (len(head) - end - 4)
	for left > 0 {
		n, _, err := unix.Recvfrom(fd, buf[:min(left, len(buf))], unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return 0, errors.Join(errors.New("the answer broke off"), err)
		}
		left -= n
	}
	return fileSize, nil
}
