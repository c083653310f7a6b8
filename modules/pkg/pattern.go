package pkg

import (
	"regexp"
	"sync"
)

// pattern is a regular expression that is compiled when it is first needed, since
// what is made at the start is paid for by every start.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
