package resource

import (
	"fmt"
	"path"
	"strings"
)

// Spaces of claims that more than one kind uses. A kind may have spaces of its
// own; the engine compares them and knows none.
const (
	SpacePath    = "path"
	SpaceUnit    = "unit"
	SpacePackage = "package"
	SpaceUser    = "user"
	SpaceGroup   = "group"
	// SpaceMember is who is in a group: all of it, or with Part one user.
	SpaceMember = "member"
	// SpaceMount is what is mounted on a directory. What needs a path needs what
	// is mounted there, too.
	SpaceMount = "mount"
)

// A Claim is something on the host that has one owner: a whole thing, or with
// Part a piece of it that shares the thing with other pieces.
type Claim struct {
	Space string
	Name  string
	Part  string
}

// Path returns the claim on a path.
func Path(name string) Claim { return Claim{Space: SpacePath, Name: name} }

// String returns "space:name", or "space:name#part". A '#' or '%' of the name
// is escaped, so that the form can be parsed back.
func (c Claim) String() string {
	s := c.Space + ":" + escapeName.Replace(c.Name)
	if c.Part != "" {
		s += "#" + c.Part
	}
	return s
}

var (
	escapeName   = strings.NewReplacer("%", "%25", "#", "%23")
	unescapeName = strings.NewReplacer("%23", "#", "%25", "%")
)

// ParseClaim is the reverse of Claim.String.
func ParseClaim(s string) (Claim, error) {
	space, rest, ok := strings.Cut(s, ":")
	if !ok || space == "" || rest == "" {
		return Claim{}, fmt.Errorf("claim %q is not space:name", s)
	}
	name, part, _ := strings.Cut(rest, "#")
	return Claim{Space: space, Name: unescapeName.Replace(name), Part: part}, nil
}

// MarshalText makes a claim a key of a JSON object.
func (c Claim) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (c *Claim) UnmarshalText(text []byte) error {
	parsed, err := ParseClaim(string(text))
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

// Clashes reports whether two claims cannot have different owners: they name
// the same thing, and one of them all of it or both the same part.
func (c Claim) Clashes(d Claim) bool {
	return c.Space == d.Space && c.Name == d.Name &&
		(c.Part == "" || d.Part == "" || c.Part == d.Part)
}

// A Need puts a resource after the managed owner of a claim, if there is one.
type Need struct {
	Claim Claim
	// Glob is true when Claim.Name is a pattern of path.Match.
	Glob bool
	// Reaction is what a change of that owner makes this resource owe; empty
	// for order alone.
	Reaction Reaction
}

// ParentNeeds returns the needs of a cleaned absolute path: each directory
// above it.
func ParentNeeds(name string) []Need {
	var needs []Need
	for dir := path.Dir(name); dir != "/" && dir != "."; dir = path.Dir(dir) {
		needs = append(needs, Need{Claim: Path(dir)})
	}
	return needs
}

// A Reaction is something that is owed to a resource because something it
// depends on changed.
type Reaction string

// The reactions that the engine passes on. It knows of each only when it is
// settled.
const (
	Restart Reaction = "restart"
	Reload  Reaction = "reload"
	Run     Reaction = "run"
	Refresh Reaction = "refresh"
)

// Early reports whether the reaction is settled before the resource is checked
// rather than after it was applied.
func (r Reaction) Early() bool { return r == Refresh }

// A Trigger says what a change of the resources that On matches causes.
type Trigger struct {
	// On is an address or a glob of one; it must match something.
	On string
	// Key is the attribute that On was written in, for messages.
	Key      string
	Reaction Reaction
}
