// Package site answers the routes of the ready binary: whoami, static files, a proxy, a fixed text, and an echo.
//
// A [Config] is data: the master reads it from a file, and every worker makes a handler of it with [New]. The longest
// route path wins; without routes there is a built-in page.
package site
