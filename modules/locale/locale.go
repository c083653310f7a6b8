// Package locale is the kind `locale`: a language and its customs that the machine
// knows, made where the system makes them, and which of them is its default.
package locale

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module {
	return module{host: h, archive: &archive{host: h, family: sync.OnceValue(func() string { return familyOf(h) })}}
}

type module struct {
	host    *host.Host
	archive *archive
}

func (module) Kind() string { return "locale" }

func (m module) New() resource.Resource { return &Resource{host: m.host, archive: m.archive} }

// Example is what the reference shows.
func (module) Example() string {
	return `- locale: en_US.UTF-8

- locale: de_DE.UTF-8
  default: true
  categories: {LC_MESSAGES: en_US.UTF-8}
`
}

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	file, err := host.NewDeparture(m.host, held)
	if err != nil {
		return nil, err
	}
	list, err := shared.NewDeparture(m.host, held, partMark, fieldListed, func() shared.Record { return &noted{} })
	if err != nil {
		return nil, err
	}
	gone := &departure{Departure: file, list: list, archive: m.archive, name: held.Address.Name}
	gone.known, err = held.Prior.Recall(claim(gone.name), &gone.before)
	return gone, err
}

// A Resource is a locale as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Title      string            `yaml:"locale" json:"locale" doc:"the locale, such as de_DE.UTF-8"`
	Charset    string            `yaml:"charset" json:"charset,omitempty" doc:"its character set, where the name does not say it"`
	Default    bool              `yaml:"default" json:"default,omitempty" doc:"true: it is the machine's LANG"`
	Categories map[string]string `yaml:"categories" json:"categories,omitempty" doc:"beside the default, other locales for parts: LC_TIME, LC_MESSAGES, LANGUAGE …"`

	host    *host.Host
	archive *archive
}

// Name returns the locale.
func (r *Resource) Name() string { return r.Title }

var localeName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z]{2,3}_[A-Z]{2}(\.[A-Za-z0-9-]+)?(@[a-z]+)?$`)
})

// always reports whether a locale is there without being made.
func always(name string) bool {
	return slices.Contains([]string{"C", "POSIX", "C.utf8"}, normal(name))
}

// normal is a name as the archive spells it: its character set in lower case,
// without what is neither letter nor digit.
func normal(name string) string {
	base, variant, varied := strings.Cut(name, "@")
	language, set, given := strings.Cut(base, ".")
	if given {
		set = strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
				return c
			}
			return -1
		}, strings.ToLower(set))
		base = language + "." + set
	}
	if varied {
		return base + "@" + variant
	}
	return base
}

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if !always(r.Title) && !localeName().MatchString(r.Title) {
		wrong("locale", "%q is not a locale such as de_DE.UTF-8", r.Title)
	}
	if strings.Trim(r.Charset, letters) != "" {
		wrong("charset", "%q is not a character set such as UTF-8", r.Charset)
	}
	if len(r.Categories) > 0 && !r.Default {
		wrong("categories", "they are beside the default: set `default: true`")
	}
	for key, value := range r.Categories {
		switch {
		case key == "LC_ALL":
			wrong("categories", "LC_ALL is for a moment, not for a machine: it leaves nobody a choice")
		case key != "LANGUAGE" && !slices.Contains(categories(), key):
			wrong("categories", "there is no %q: write LANGUAGE or one of %s", key, strings.Join(categories(), ", "))
		case key == "LANGUAGE" && (value == "" || strings.Trim(value, letters+"_.@:") != ""), key != "LANGUAGE" && !always(value) && !localeName().MatchString(value):
			wrong("categories", "%s: %q is not a locale", key, value)
		}
	}
	return errors.Join(problems...)
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

func categories() []string {
	return []string{
		"LC_ADDRESS", "LC_COLLATE", "LC_CTYPE", "LC_IDENTIFICATION", "LC_MEASUREMENT", "LC_MESSAGES", "LC_MONETARY",
		"LC_NAME", "LC_NUMERIC", "LC_PAPER", "LC_TELEPHONE", "LC_TIME",
	}
}

// Space is the space of claims on locales.
const Space = "locale"

func claim(name string) resource.Claim { return resource.Claim{Space: Space, Name: normal(name)} }

// Claims are the locale, its line in the list of those that are made, and the file
// of the default: a machine has one.
func (r *Resource) Claims() []resource.Claim {
	claims := append(files.Claims(r.files()), claim(r.Title))
	if r.made() {
		claims = append(claims, r.listClaim())
	}
	return claims
}

// made reports whether the system makes the locale from a list.
func (r *Resource) made() bool { return !always(r.Title) && r.archive.lists() }

// Needs are the directories above the files, the package that makes locales, and
// those that a default has for parts of it.
func (r *Resource) Needs() []resource.Need {
	needs := append(files.Needs(r.files()), resource.Need{Claim: r.archive.brings()})
	for _, key := range slices.Sorted(maps.Keys(r.Categories)) {
		if key != "LANGUAGE" && normal(r.Categories[key]) != normal(r.Title) {
			needs = append(needs, resource.Need{Claim: claim(r.Categories[key])})
		}
	}
	return needs
}

// Watches are the files, and what was made.
func (r *Resource) Watches() []resource.Watch {
	return append(files.Watches(r.files()), resource.WatchPaths(listFile, archiveFile)...)
}

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write {
	writes := files.Writes(r.files())
	if r.made() {
		writes = append(writes, resource.Write{Path: listFile, Follow: true})
	}
	return writes
}

func (r *Resource) files() []files.File {
	if !r.Default {
		return nil
	}
	text := "# kept by trued\nLANG=" + r.Title + "\n"
	for _, key := range slices.Sorted(maps.Keys(r.Categories)) {
		text += key + "=" + r.Categories[key] + "\n"
	}
	return []files.File{{Path: r.archive.defaultFile(), Part: "default", Spec: host.FileSpec{
		Content: resource.Bytes([]byte(text)), Mode: resource.NewMode(0o644), Parents: true, Backup: true, Sensitive: r.Sensitive,
		Follow: true, // newer releases have a link there
	}}}
}

// witness is what all looks like that a Check reads.
func (r *Resource) witness() resource.Witness {
	names := []string{localeDir, archiveFile}
	if r.made() {
		names = append(names, listFile)
	}
	for _, f := range r.files() {
		names = append(names, f.Path)
	}
	return r.host.WitnessNamed(names...)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, _ string, w resource.Witness) bool {
	return m.host.HoldsOnly(w)
}

const (
	// fieldListed is the line in the list, and fieldKnown what was made of it.
	fieldListed = "listed"
	fieldKnown  = "known"
)

// A before is what is remembered of a locale.
type before struct {
	Known bool `json:"known"`
}

// Check compares the default, the list, and what was made of it.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	seen := r.witness() // before anything is read
	finding, err := files.Check(ctx, r.host, view, r.files())
	if err != nil {
		return resource.Finding{}, err
	}
	finding.Witness = seen
	if always(r.Title) {
		return finding, nil
	}
	known, err := r.archive.has(r.Title)
	if err != nil {
		return resource.Finding{}, err
	}
	if view.Prior = keep(finding.Prior, view.Prior); view.Prior[claim(r.Title)] == nil {
		if finding.Prior, err = view.Prior.With(claim(r.Title), before{Known: known}); err != nil {
			return resource.Finding{}, err
		}
		view.Prior = finding.Prior
	}
	if r.made() {
		if err := r.checkList(ctx, view, &finding); err != nil {
			return resource.Finding{}, err
		}
	}
	if !known && (!view.Offline || r.archive.tool() != nil) {
		finding.Diff = append(finding.Diff, r.change(fieldKnown, "false", "true"))
		err = r.possible(view, &finding)
	}
	return finding, err
}

func keep(added, noted resource.Prior) resource.Prior {
	if added != nil {
		return added
	}
	return noted
}

func (r *Resource) change(field, old, now string) resource.Change {
	if r.Sensitive {
		return resource.Change{Field: field, Redacted: true}
	}
	return resource.Change{Field: field, Old: old, New: now}
}

func (r *Resource) checkList(ctx context.Context, view resource.View, finding *resource.Finding) error {
	list, err := shared.Check(ctx, r.host, r, view, r.note)
	if err != nil {
		return err
	}
	if list.Prior != nil {
		finding.Prior = list.Prior
	}
	finding.Diff = append(finding.Diff, list.Diff...)
	return nil
}

// possible says why the machine cannot make the locale, or not yet.
func (r *Resource) possible(view resource.View, finding *resource.Finding) error {
	supported, told, err := r.archive.supports(r.line())
	switch {
	case err != nil:
		return err
	case told && !supported:
		return fmt.Errorf("the system has no locale %q: it is misspelled", r.line())
	case r.archive.lists() && r.archive.tool() != nil:
		return nil
	}
	if by, managed := view.Owner(r.archive.brings()); managed {
		finding.Unknown = by.String() + " brings what locales are made with"
		return nil
	}
	if !r.archive.lists() {
		language, _, _ := strings.Cut(r.Title, "_")
		return fmt.Errorf("the system does not have the locale %q: declare the package that brings it, such as glibc-langpack-%s", r.Title, language)
	}
	return fmt.Errorf("locale-gen, which makes locales, is not installed: declare the package %s", r.archive.brings().Name)
}

// Apply adds to the list, has the locale made, and sets the default.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	if err := ctx.Err(); err != nil {
		return resource.Result{}, err
	}
	if found.Diff.Has(fieldListed) {
		if result, err := shared.Apply(ctx, r.host, r, view, found); err != nil {
			return result, err
		}
	}
	pending := ""
	switch {
	case found.Diff.Has(fieldKnown):
		if err := r.archive.make(ctx, true); err != nil {
			return resource.Result{}, err
		}
	case found.Diff.Has(fieldListed) && view.Offline && r.archive.tool() == nil:
		pending = "the locale is made when locale-gen runs in the tree"
	}
	return resource.Result{Pending: pending}, files.Apply(ctx, r.host, view, r.files(), found)
}
