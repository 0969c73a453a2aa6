package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"baton/master"
)

// resize is `baton resize N`.
func resize(args []string, u *ui) int {
	fs := newClientFlags("resize")
	if err := fs.parse(args, 1); err != nil {
		return u.failFlags(fs.flagSet, err)
	}
	n, err := workersArgument(fs.args)
	if err != nil {
		return u.fail(err)
	}
	c, err := fs.client()
	if err != nil {
		return u.fail(err)
	}
	return c.resize(context.Background(), n, u)
}

func workersArgument(args []string) (int, error) {
	const hint = "as baton resize 4"
	if len(args) == 0 {
		return 0, &mistake{What: "resize: to how many workers?", Hint: hint}
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > master.MaxWorkers {
		return 0, &mistake{What: fmt.Sprintf("resize: %q: want a number from 1 to %d", args[0], master.MaxWorkers), Hint: hint}
	}
	return n, nil
}

func (c *client) resize(ctx context.Context, n int, u *ui) int {
	var ignored []byte
	if err := c.ask(ctx, http.MethodPost, fmt.Sprintf("/resize?workers=%d", n), &ignored); err != nil {
		return u.fail(err)
	}
	u.say("%s", count(int64(n), "worker"))
	return exitOK
}
