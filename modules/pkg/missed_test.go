package pkg

import (
	"slices"
	"testing"
)

func TestWhatARefreshMissedIsTold(t *testing.T) {
	const output = `Ign:1 http://localhost:8099/down ./ InRelease
Get:2 http://gateway:8090/late ./ InRelease [517 B]
Err:2 http://gateway:8090/late ./ InRelease
  The following signatures were invalid: EXPKEYSIG B922E72DE3E2014C
Err:1 http://localhost:8099/down ./ InRelease
  Could not connect to localhost:8099 (::1). - connect (111: Connection refused)
Reading package lists...
W: GPG error: http://gateway:8090/late ./ InRelease: The following signatures were invalid: EXPKEYSIG B922E72DE3E2014C
E: The repository 'http://gateway:8090/late ./ InRelease' is not signed.
`
	want := []string{
		"http://gateway:8090/late ./ InRelease: The following signatures were invalid: EXPKEYSIG B922E72DE3E2014C",
		"http://localhost:8099/down ./ InRelease: Could not connect to localhost:8099 (::1). - connect (111: Connection refused)",
		"The repository 'http://gateway:8090/late ./ InRelease' is not signed.",
	}
	if got := fetchFaults(output); !slices.Equal(got, want) {
		t.Errorf("it is %q, want %q", got, want)
	}
	if got := fetchFaults("Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]\nReading package lists...\n"); len(got) > 0 {
		t.Errorf("of a refresh that went well it is %q", got)
	}
}
