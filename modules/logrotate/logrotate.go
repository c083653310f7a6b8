// Package logrotate is the kind `logrotate`: when some logs are rotated and how
// many are kept, in a file of its own in /etc/logrotate.d.
//
// logrotate itself must accept the file before it is put in place.
package logrotate

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "logrotate" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

// Example is what the reference shows.
func (module) Example() string {
	return `- logrotate: app
  paths: [/var/log/app/*.log]
  frequency: daily
  rotate: 14
  compress: true
  missingok: true
  create: 0640 app adm
  postrotate: systemctl kill -s HUP app.service
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return host.NewDeparture(m.host, held)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	return m.host.Holds(place(name), w)
}

// A Resource is a file of /etc/logrotate.d as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	File          string   `yaml:"logrotate" json:"logrotate" doc:"the file's name in /etc/logrotate.d"`
	Paths         []string `yaml:"paths" json:"paths,omitempty" doc:"the logs: absolute paths, or globs of them"`
	Frequency     string   `yaml:"frequency" json:"frequency,omitempty" words:"hourly,daily,weekly,monthly,yearly" doc:"hourly (as far as logrotate itself runs each hour), daily, weekly, monthly or yearly"`
	Size          string   `yaml:"size" json:"size,omitempty" doc:"rotate a log when it is larger, such as 100M"`
	Rotate        *int     `yaml:"rotate" json:"rotate,omitempty" doc:"how many old ones are kept"`
	Compress      *bool    `yaml:"compress" json:"compress,omitempty" doc:"whether old ones are compressed"`
	DelayCompress bool     `yaml:"delaycompress" json:"delaycompress,omitempty" doc:"true: the newest of the old ones is not compressed yet"`
	MissingOK     *bool    `yaml:"missingok" json:"missingok,omitempty" doc:"whether a log may be missing"`
	NotIfEmpty    bool     `yaml:"notifempty" json:"notifempty,omitempty" doc:"true: an empty log is not rotated"`
	CopyTruncate  bool     `yaml:"copytruncate" json:"copytruncate,omitempty" doc:"true: copy the log and empty it, for a program that cannot open another"`
	Create        string   `yaml:"create" json:"create,omitempty" doc:"mode, owner and group of the new log, such as 0640 www-data adm"`
	Su            string   `yaml:"su" json:"su,omitempty" doc:"user and group to rotate as, for logs in a directory that others may write to"`
	SharedScripts bool     `yaml:"sharedscripts" json:"sharedscripts,omitempty" doc:"true: the scripts run once for all logs"`
	PreRotate     string   `yaml:"prerotate" json:"prerotate,omitempty" doc:"lines of shell that run before a log is rotated"`
	PostRotate    string   `yaml:"postrotate" json:"postrotate,omitempty" doc:"lines of shell that run after a log was rotated"`
	Options       []string `yaml:"options" json:"options,omitempty" doc:"other directives of logrotate's, one each"`
	State         string   `yaml:"state" json:"state,omitempty" words:"present,absent" doc:"present (default) or absent"`

	files.Content `yaml:",inline"`

	host *host.Host
}

const directory = "/etc/logrotate.d"

func place(name string) string { return path.Join(directory, name) }

// Space is the space of claims on logs: two files that rotate one are an error
// of logrotate's.
const Space = "rotated log"

// Name returns the file's name.
func (r *Resource) Name() string { return r.File }

func (r *Resource) absent() bool { return r.State == host.Absent }

// Load reads the content, or makes it of what else is given.
func (r *Resource) Load(l resource.Loader) error {
	if r.Given() == 0 && !r.absent() {
		r.Wanted = resource.Bytes([]byte(r.text()))
		return nil
	}
	return r.Content.Load(l)
}

// text is what the short form stands for.
func (r *Resource) text() string {
	var b strings.Builder
	b.WriteString("# kept by trued\n")
	for _, p := range r.Paths {
		b.WriteString(`"` + p + "\"\n")
	}
	b.WriteString("{\n")
	line := func(on bool, words ...string) {
		if on {
			b.WriteString("\t" + strings.Join(words, " ") + "\n")
		}
	}
	either := func(flag *bool, yes, no string) {
		line(flag != nil && *flag, yes)
		line(flag != nil && !*flag, no)
	}
	line(r.Frequency != "", r.Frequency)
	line(r.Size != "", "size", r.Size)
	if r.Rotate != nil {
		line(true, "rotate", strconv.Itoa(*r.Rotate))
	}
	either(r.Compress, "compress", "nocompress")
	line(r.DelayCompress, "delaycompress")
	either(r.MissingOK, "missingok", "nomissingok")
	line(r.NotIfEmpty, "notifempty")
	line(r.CopyTruncate, "copytruncate")
	line(r.Create != "", "create", r.Create)
	line(r.Su != "", "su", r.Su)
	for _, o := range r.Options {
		line(true, o)
	}
	line(r.SharedScripts, "sharedscripts")
	for _, s := range []struct{ name, lines string }{{"prerotate", r.PreRotate}, {"postrotate", r.PostRotate}} {
		if s.lines == "" {
			continue
		}
		line(true, s.name)
		for l := range strings.SplitSeq(strings.TrimRight(s.lines, "\n"), "\n") {
			line(true, "\t"+l)
		}
		line(true, "endscript")
	}
	b.WriteString("}\n")
	return b.String()
}

// ignored are the ends of names that logrotate leaves out.
func ignored() []string {
	return []string{
		",v", ".bak", ".cfsaved", ".disabled", ".dpkg-bak", ".dpkg-del", ".dpkg-dist", ".dpkg-new", ".dpkg-old",
		".dpkg-tmp", ".rhn-cfg-tmp-", ".rpmnew", ".rpmorig", ".rpmsave", ".swp", ".ucf-dist", ".ucf-new", ".ucf-old", "~",
	}
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := []error{r.Content.Validate()}
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	switch {
	case r.File == "" || strings.ContainsAny(r.File, "/\r\n\x00"):
		wrong("logrotate", "%q is not the name of a file in %s", r.File, directory)
	case strings.HasPrefix(r.File, "."), slices.ContainsFunc(ignored(), func(end string) bool { return strings.HasSuffix(r.File, end) }):
		wrong("logrotate", "logrotate ignores a file that is called %q", r.File)
	}
	short := r.short()
	switch r.State {
	case "", "present":
		if short != "" && r.Given() > 0 {
			wrong(short, "give either the content, or what is rotated and how")
		} else if r.Given() == 0 {
			problems = append(problems, r.validateShort()...)
		}
	case host.Absent:
		if short != "" || r.Given() > 0 {
			wrong("state", "a file that is absent has no content")
		}
	default:
		wrong("state", "%q is neither present nor absent", r.State)
	}
	return errors.Join(problems...)
}

// short is an attribute of the short form that is given.
func (r *Resource) short() string {
	for _, a := range []struct {
		name  string
		given bool
	}{
		{"paths", len(r.Paths) > 0}, {"frequency", r.Frequency != ""}, {"size", r.Size != ""}, {"rotate", r.Rotate != nil},
		{"compress", r.Compress != nil}, {"delaycompress", r.DelayCompress}, {"missingok", r.MissingOK != nil},
		{"notifempty", r.NotIfEmpty}, {"copytruncate", r.CopyTruncate}, {"create", r.Create != ""}, {"su", r.Su != ""},
		{"sharedscripts", r.SharedScripts}, {"prerotate", r.PreRotate != ""}, {"postrotate", r.PostRotate != ""},
		{"options", len(r.Options) > 0},
	} {
		if a.given {
			return a.name
		}
	}
	return ""
}

func (r *Resource) validateShort() []error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if len(r.Paths) == 0 {
		wrong("paths", "is missing: name the logs, or give the content")
	}
	for _, p := range r.Paths {
		if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "\"\r\n\x00") {
			wrong("paths", "%q is not an absolute path", p)
		}
	}
	switch r.Frequency {
	case "", "hourly", "daily", "weekly", "monthly", "yearly":
	default:
		wrong("frequency", "%q is not one of hourly, daily, weekly, monthly and yearly", r.Frequency)
	}
	if strings.Trim(r.Size, "0123456789") != "" && strings.Trim(r.Size[:len(r.Size)-1], "0123456789") != "" ||
		r.Size != "" && !strings.ContainsAny(r.Size[len(r.Size)-1:], "0123456789kMG") {
		wrong("size", "%q is not a size such as 500k, 100M or 1G", r.Size)
	}
	if r.Rotate != nil && *r.Rotate < -1 {
		wrong("rotate", "%d is not a number of logs to keep", *r.Rotate)
	}
	for field, value := range map[string]string{"create": r.Create, "su": r.Su} {
		if strings.ContainsAny(value, "\r\n\x00{}") {
			wrong(field, "%q has more than one line", value)
		}
	}
	for _, o := range r.Options {
		if strings.TrimSpace(o) == "" || strings.ContainsAny(o, "\r\n\x00{}") {
			wrong("options", "%q is not one directive", o)
		}
	}
	for field, script := range map[string]string{"prerotate": r.PreRotate, "postrotate": r.PostRotate} {
		for line := range strings.Lines(script) {
			if strings.TrimSpace(line) == "endscript" || strings.ContainsRune(line, 0) {
				wrong(field, "has a line of its own that ends it")
			}
		}
	}
	return problems
}

// Claims are the path, and in the short form the logs.
func (r *Resource) Claims() []resource.Claim {
	claims := files.Claims(r.files())
	for _, p := range r.Paths {
		claims = append(claims, resource.Claim{Space: Space, Name: p})
	}
	return claims
}

// Needs are the directories above the file, the package that brings logrotate,
// and the accounts that it must know.
func (r *Resource) Needs() []resource.Need {
	needs := append(files.Needs(r.files()), resource.Need{Claim: brings()})
	if words := strings.Fields(r.Create); len(words) == 3 {
		needs = append(needs, host.AccountNeeds(words[1], words[2])...)
	}
	if words := strings.Fields(r.Su); len(words) == 2 {
		needs = append(needs, host.AccountNeeds(words[0], words[1])...)
	}
	return needs
}

// brings is the package that brings logrotate, everywhere.
func brings() resource.Claim {
	return resource.Claim{Space: resource.SpacePackage, Name: "logrotate"}
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return files.Writes(r.files()) }

func (r *Resource) files() []files.File {
	return []files.File{{Path: place(r.File), Absent: r.absent(), Spec: host.FileSpec{
		Content: r.Wanted, Mode: resource.NewMode(0o644), Owner: owner(), Group: owner(),
		Backup: true, Sensitive: r.Sensitive, Examine: r.examine,
	}}}
}

// owner is root's number where it can be given away: logrotate takes no file of
// anybody else.
func owner() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return "0"
}

// Check compares the file.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	finding, err := files.Check(ctx, r.host, view, r.files())
	if err != nil || r.absent() || len(finding.Diff) == 0 || host.LocalProgram(program) != "" {
		return finding, err
	}
	return finding, missing(view, &finding)
}

// missing says so where there is no logrotate yet to accept a file.
func missing(view resource.View, finding *resource.Finding) error {
	by, managed := view.Owner(brings())
	switch {
	case view.Offline:
		finding.Pending = "this machine has no logrotate that could accept the file"
	case managed:
		finding.Unknown = by.String() + " brings logrotate, which must accept the file"
	default:
		return errors.New("logrotate, which must accept the file, is not installed: declare the package logrotate")
	}
	return nil
}

// Apply puts the file in place when it is accepted.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return resource.Result{}, files.Apply(ctx, r.host, view, r.files(), found)
}

// Watches are the file.
func (r *Resource) Watches() []resource.Watch { return files.Watches(r.files()) }
