package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/source"
)

func TestConfigurationSaysWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  source.Config
		want string
	}{
		"no name":                    {source.Config{URL: "https://git.example.com/a.git"}, "name:"},
		"neither url nor dir":        {source.Config{Name: "a"}, "url: is missing"},
		"both":                       {source.Config{Name: "a", URL: "/a", Dir: "/b"}, "dir: cannot be given together"},
		"a password in the URL":      {source.Config{Name: "a", URL: "https://u:hunter2@git.example.com/a.git"}, "token_file"},
		"another scheme":             {source.Config{Name: "a", URL: "git://git.example.com/a.git"}, "use https, ssh or a path"},
		"a token in clear text":      {source.Config{Name: "a", URL: "http://git.example.com/a.git", TokenFile: "t"}, "use https"},
		"a branch and a tag":         {source.Config{Name: "a", URL: "/a", Branch: "main", Tag: "v*"}, "give one of them"},
		"a branch of a directory":    {source.Config{Name: "a", Dir: "/a", Branch: "main"}, "no branch"},
		"a short commit":             {source.Config{Name: "a", URL: "/a", Commit: "abc123"}, "40 hexadecimal digits"},
		"half a client certificate":  {source.Config{Name: "a", URL: "/a", ClientKeyFile: "k"}, "give both"},
		"a negative limit":           {source.Config{Name: "a", URL: "/a", Limits: source.Limits{Bytes: -1}}, "limits.bytes"},
		"a user without a password":  {source.Config{Name: "a", URL: "https://git.example.com/a.git", Username: "u"}, "token_file"},
		"a proxy without a scheme":   {source.Config{Name: "a", URL: "/a", Proxy: "user:hunter2@proxy:3128"}, "proxy:"},
		"a proxy of another kind":    {source.Config{Name: "a", URL: "/a", Proxy: "socks4://user:hunter2@proxy"}, "use http, https, socks5"},
		"a passphrase without a key": {source.Config{Name: "a", URL: "ssh://git.example.com/a.git", SSHPassphraseFile: "p"}, "ssh_key_file"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.cfg.Validate()
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error is %v, want one that says %q", err, test.want)
			}
		})
	}
	for _, good := range []source.Config{
		{Name: "a", URL: "https://git.example.com/a.git", Branch: "main"},
		{Name: "a", URL: "git@git.example.com:team/a.git", Tag: "v*"},
		{Name: "a", URL: "ssh://git@git.example.com:2222/a.git"},
		{Name: "a", URL: "/srv/git/a.git"},
		{Name: "a", URL: "file:///srv/git/a.git"},
		{Name: "a", Dir: "/srv/desired"},
		{Name: "a", URL: "https://git.example.com/a.git", Proxy: "none"},
		{Name: "a", URL: "https://git.example.com/a.git", Proxy: "socks5h://user:secret@proxy"},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

func TestURLIsShownWithoutCredentials(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:secret@git.example.com/a.git?token=secret": "https://git.example.com/a.git",
		"ssh://git@git.example.com:2222/a.git":                   "ssh://git.example.com:2222/a.git",
		"git@git.example.com:team/a.git":                         "git.example.com:team/a.git",
		"/srv/git/a.git":                                         "/srv/git/a.git",
		"https://user:se%zzcret@git.example.com":                 "(malformed URL)",
	} {
		if got := source.Redact(in); got != want {
			t.Errorf("Redact(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestArgumentIsADirectoryOrARepository(t *testing.T) {
	u := newUpstream(t)
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]source.Config{
		u.work:                          {Name: u.work, Dir: u.work},
		u.bare:                          {Name: u.bare, URL: u.bare},
		"testdata":                      {Name: filepath.Join(wd, "testdata"), Dir: filepath.Join(wd, "testdata")},
		"https://git.example.com/a.git": {Name: "https://git.example.com/a.git", URL: "https://git.example.com/a.git"},
		"git@git.example.com:a.git":     {Name: "git.example.com:a.git", URL: "git@git.example.com:a.git"},
	} {
		got := source.FromArgument(arg)
		if got.URL != want.URL || got.Dir != want.Dir || got.Name != want.Name {
			t.Errorf("FromArgument(%q) is %+v, want %+v", arg, got, want)
		}
	}
}
