package sinks

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is an amount, written with its unit: 64MiB.
type Bytes int64

// UnmarshalText takes a whole number of KiB, MiB or GiB.
func (b *Bytes) UnmarshalText(text []byte) error {
	const most = 1 << 20
	for unit, size := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if digits, ok := strings.CutSuffix(string(text), unit); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err == nil && n > 0 && n < most {
				*b = Bytes(n * size)
				return nil
			}
		}
	}
	return fmt.Errorf("%q is no amount: write a whole number with its unit, such as 64MiB", text)
}
