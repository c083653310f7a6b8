package catalog

import (
	"fmt"
	"time"
)

// Limits of one template or expression.
const (
	maxSteps  = 200_000 // turns of loops
	maxNested = 50      // templates within templates
	maxOutput = 16 << 20
	maxTime   = 10 * time.Second
	// maxWork is how much text functions may read and make on the way.
	maxWork = 64 << 20
)

// A budget is what one template or expression may still use. The counts make a
// runaway the same error on each machine; the time is for what they miss.
type budget struct {
	steps  int
	nested int
	work   int
	until  time.Time
}

// A limitError is a limit that a template or expression ran into.
type limitError struct{ message string }

func (e *limitError) Error() string { return e.message }

func limited(format string, args ...any) error {
	return &limitError{message: fmt.Sprintf(format, args...)}
}

func (b *budget) reset() { *b = budget{until: time.Now().Add(maxTime)} }

// step is counted at each turn of each loop.
func (b *budget) step() error {
	b.steps++
	if b.steps > maxSteps {
		return limited("loops more than %d times", maxSteps)
	}
	if time.Now().After(b.until) {
		return limited("takes longer than %s", maxTime)
	}
	return nil
}

// spend counts bytes of text that a function reads or makes.
func (b *budget) spend(n int) error {
	b.work += n
	if b.work > maxWork {
		return limited("works on more than %d MiB of text", maxWork>>20)
	}
	return nil
}

// maxValueDepth is how deep lists and maps may be in one another where they are
// written out.
const maxValueDepth = 100

// measure counts all of a value, before something walks through it. The same
// list may be in a value many times over, so a small one can be endless.
func (b *budget) measure(v any, depth int) error {
	const each = 16
	if depth > maxValueDepth {
		return limited("lists and maps more than %d deep", maxValueDepth)
	}
	switch v := v.(type) {
	case string:
		return b.spend(len(v))
	case []any:
		for _, item := range v {
			if err := b.measure(item, depth+1); err != nil {
				return err
			}
		}
		return b.spend(each * (1 + len(v)))
	case map[string]any:
		for key, item := range v {
			if err := b.spend(len(key)); err != nil {
				return err
			}
			if err := b.measure(item, depth+1); err != nil {
				return err
			}
		}
		return b.spend(each * (1 + len(v)))
	}
	return b.spend(each)
}

func (b *budget) enter() error {
	b.nested++
	if b.nested > maxNested {
		return limited("templates call each other more than %d deep", maxNested)
	}
	return b.step()
}

func (b *budget) leave() { b.nested-- }
