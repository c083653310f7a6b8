package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"time"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/metrics"
	"trued.dev/trued/internal/report/sinks"
	"trued.dev/trued/internal/secret"
	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/window"
)

// DefaultConfig is where the configuration is unless another file is named.
const DefaultConfig = "/etc/trued/trued.yaml"

// A Mode says whether differences are applied.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Observe Mode = "observe"
)

// A Config is the agent's own file.
type Config struct {
	Sources       []SourceConfig `yaml:"sources" doc:"where desired state comes from, in order"`
	Interval      time.Duration  `yaml:"interval" doc:"between polls, give or take a tenth; 1m"`
	Resync        time.Duration  `yaml:"resync" doc:"between full runs when nothing is new; 15m"`
	Mode          Mode           `yaml:"mode" doc:"enforce, or observe: plan and report, change nothing"`
	Watch         *bool          `yaml:"watch" doc:"false: find drift by full runs alone, in place of as it happens; true"`
	ConfirmWithin time.Duration  `yaml:"confirm_within" doc:"how long after a run a new commit may take to be healthy before the host goes back; 5m"`
	RunTimeout    time.Duration  `yaml:"run_timeout" doc:"longest run of a new commit before the host goes back; 1h"`
	Report        []sinks.Config `yaml:"report" doc:"where events go: journal, stdout, file, syslog, http, otlp"`
	Windows       window.Set     `yaml:"windows" doc:"when this host may be changed: allow, deny"`
	Reboot        *window.Reboot `yaml:"reboot" doc:"whether this host may reboot by itself, in place of what its group says: allow, window"`
	Backups       BackupConfig   `yaml:"backups" doc:"what is kept of replaced files: size, age"`
	Secrets       SecretsConfig  `yaml:"secrets" doc:"what this host decrypts secrets with: identities"`
	Metrics       metrics.Config `yaml:"metrics" doc:"where a Prometheus finds how the host stands: listen, textfile"`
}

// A SourceConfig is one source of the configuration.
type SourceConfig struct {
	Name              string       `yaml:"name" doc:"the operator's word for it"`
	URL               string       `yaml:"url" doc:"a Git repository: https, ssh, file, a path, or user@host:path"`
	URLs              []string     `yaml:"urls" doc:"further places of the same repository, tried in turn"`
	Dir               string       `yaml:"dir" doc:"a plain directory, in place of url"`
	Branch            string       `yaml:"branch" doc:"the branch; the server's default one"`
	Tag               string       `yaml:"tag" doc:"a tag, or a pattern of which the highest version counts"`
	Commit            string       `yaml:"commit" doc:"one commit, pinned"`
	Group             string       `yaml:"group" doc:"the host's group; else hosts.yaml decides"`
	SSHKeyFile        string       `yaml:"ssh_key_file" doc:"private key, readable by root alone"`
	SSHPassphraseFile string       `yaml:"ssh_passphrase_file" doc:"its passphrase"`
	KnownHostsFile    string       `yaml:"known_hosts_file" doc:"the server's SSH keys"`
	TokenFile         string       `yaml:"token_file" doc:"bearer token, or with username a password"`
	Username          string       `yaml:"username" doc:"user for basic authentication"`
	CAFile            string       `yaml:"ca_file" doc:"certificates that the server is checked against"`
	ClientCertFile    string       `yaml:"client_cert_file" doc:"certificate shown to the server"`
	ClientKeyFile     string       `yaml:"client_key_file" doc:"its key"`
	Proxy             string       `yaml:"proxy" doc:"URL of an http, https, socks5 or socks5h proxy, or none; the environment's, for HTTP"`
	Limits            LimitsConfig `yaml:"limits" doc:"what a server may cost"`
	Trust             TrustConfig  `yaml:"trust" doc:"whose commits are applied"`
	Repository        string       `yaml:"repository" doc:"the name that repository.yaml at the root of the repository must hold"`
	// Secrets keep what is encrypted for this host in one repository from whoever
	// copies it into another.
	Secrets SecretsConfig `yaml:"secrets" doc:"what its secrets are decrypted with, in place of the keys of the host: identities"`
}

// SecretsConfig names the keys that secrets are decrypted with.
type SecretsConfig struct {
	Identities []string `yaml:"identities" doc:"SSH private keys or files of age keys, readable by root alone, and names of systemd credentials; the host's own SSH key, /etc/ssh/ssh_host_ed25519_key"`
}

func (c SecretsConfig) validate() error {
	for i, name := range c.Identities {
		if err := secret.CheckName(name); err != nil {
			return fmt.Errorf("secrets: identities[%d]: %w", i, err)
		}
	}
	return nil
}

// LimitsConfig bounds what a server can cost; zero is the default.
type LimitsConfig struct {
	Time    time.Duration `yaml:"time" doc:"longest fetch"`
	Idle    time.Duration `yaml:"idle" doc:"longest silence within one"`
	Bytes   int64         `yaml:"bytes" doc:"most that one fetch may move"`
	Object  int64         `yaml:"object" doc:"largest file"`
	Tree    int64         `yaml:"tree" doc:"sum of a commit's files"`
	Entries int           `yaml:"entries" doc:"number of files and directories"`
	History int           `yaml:"history" doc:"commits looked at to prove descent"`
	Memory  int64         `yaml:"memory" doc:"most memory of the process that fetches"`
}

// ErrNoConfig is returned where the agent's file is not there.
var ErrNoConfig = errors.New("there is no configuration")

// ErrNoSource is returned where there is nothing to keep the host true to.
var ErrNoSource = errors.New("no source is configured")

// LoadConfig reads the agent's file. With optional it need not be there.
func LoadConfig(path string, optional bool) (Config, error) {
	c := Config{Interval: time.Minute, Resync: 15 * time.Minute, Mode: Enforce, ConfirmWithin: 5 * time.Minute, RunTimeout: time.Hour}
	data, err := os.ReadFile(path) //nolint:gosec // the operator says where it is
	if errors.Is(err, fs.ErrNotExist) && optional {
		return c, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("%w at %q", ErrNoConfig, path)
	}
	if err != nil {
		return c, fmt.Errorf("cannot read configuration: %w", err)
	}
	docs, problems := document.Parse(data)
	if len(docs) > 1 {
		problems = append(problems, docs[1].Problem("there is more than one document"))
	}
	if len(docs) > 0 && len(problems) == 0 {
		problems = document.NewDecoder().Decode(docs[0], &c)
	}
	if len(docs) > 0 && len(problems) == 0 {
		problems = c.reportProblems(docs[0])
	}
	if len(problems) > 0 {
		return c, placed(path, problems)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("configuration %q: %w", path, err)
	}
	return c, nil
}

// placed gives each problem its place in the file.
func placed(path string, problems []document.Problem) error {
	var errs []error
	for _, p := range problems {
		msg := fmt.Sprintf("%s:%d:%d: %s", path, p.Line, p.Column, p.Message)
		if p.Suggestion != "" {
			msg += fmt.Sprintf(": did you mean %q?", p.Suggestion)
		}
		errs = append(errs, errors.New(msg))
	}
	return errors.Join(errs...)
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Interval < time.Second {
		errs = append(errs, fmt.Errorf("interval: %s is too short: 1s is the least", c.Interval))
	}
	if c.Resync < time.Second {
		errs = append(errs, fmt.Errorf("resync: %s is too short: 1s is the least", c.Resync))
	}
	if c.ConfirmWithin < time.Second {
		errs = append(errs, fmt.Errorf("confirm_within: %s is too short: 1s is the least", c.ConfirmWithin))
	}
	if c.RunTimeout < time.Minute {
		errs = append(errs, fmt.Errorf("run_timeout: %s is too short: 1m is the least", c.RunTimeout))
	}
	if c.Mode != Enforce && c.Mode != Observe {
		errs = append(errs, fmt.Errorf("mode: %q is unknown: write enforce or observe", c.Mode))
	}
	if err := c.Windows.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("windows: %w", err))
	}
	if err := c.Reboot.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("reboot: %w", err))
	}
	if err := c.Backups.validate(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.Secrets.validate())
	seen := map[string]bool{}
	for i, s := range c.Sources {
		if seen[s.Name] {
			errs = append(errs, fmt.Errorf("sources: %q is there twice", s.Name))
		}
		seen[s.Name] = true
		if err := s.source().Validate(); err != nil {
			errs = append(errs, fmt.Errorf("sources[%d]: %w", i, err))
		}
		if err := errors.Join(s.validateTrust(), s.Secrets.validate()); err != nil {
			errs = append(errs, fmt.Errorf("sources[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// reportProblems says what is wrong with the sinks, at their places.
func (c Config) reportProblems(doc *document.Node) []document.Problem {
	list := doc.Get("report")
	if list == nil {
		return nil
	}
	var problems []document.Problem
	seen := map[string]bool{}
	for i, s := range c.Report {
		route, err := s.Open(io.Discard, false, "")
		switch {
		case err != nil:
			problems = append(problems, list.Items[i].Problem("report: %v", err))
		case seen[route.Sink.Name()]:
			problems = append(problems, list.Items[i].Problem("report: the sink %s is there twice: give one a name", route.Sink.Name()))
		default:
			seen[route.Sink.Name()] = true
		}
	}
	return problems
}

// UseSource makes a directory or URL the only source.
func (c *Config) UseSource(arg, group string) error {
	s := source.FromArgument(arg)
	c.Sources = []SourceConfig{{Name: s.Name, URL: s.URL, Dir: s.Dir, Group: group}}
	return c.Validate()
}

// UseGroup lays the host's group over what is configured, for every source.
func (c *Config) UseGroup(group string) {
	for i := range c.Sources {
		c.Sources[i].Group = group
	}
}

// same reports whether two configurations mean the same.
func (c Config) same(d Config) bool { return reflect.DeepEqual(c, d) }

func (s SourceConfig) source() source.Config {
	l := s.Limits
	return source.Config{
		Name: s.Name, URL: s.URL, URLs: s.URLs, Dir: s.Dir, Branch: s.Branch, Tag: s.Tag, Commit: s.Commit,
		SSHKeyFile: s.SSHKeyFile, SSHPassphraseFile: s.SSHPassphraseFile, KnownHostsFile: s.KnownHostsFile,
		TokenFile: s.TokenFile, Username: s.Username, CAFile: s.CAFile,
		ClientCertFile: s.ClientCertFile, ClientKeyFile: s.ClientKeyFile, Proxy: s.Proxy,
		Limits: source.Limits{
			Time: l.Time, Idle: l.Idle, Bytes: l.Bytes, Object: l.Object, Tree: l.Tree,
			Entries: l.Entries, History: l.History, Memory: l.Memory,
		},
	}
}

// storeName is the directory of a source's store: its name, if that can be one.
func (s SourceConfig) storeName() string {
	if !strings.Contains(s.Name, "/") {
		return s.Name
	}
	sum := sha256.Sum256([]byte(s.Name))
	return "at-" + hex.EncodeToString(sum[:8])
}
