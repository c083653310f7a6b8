package document

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A Decoder decodes nodes into typed values. It keeps what it learned about the
// types, and is used by one goroutine.
type Decoder struct {
	plans map[reflect.Type]*plan
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder { return &Decoder{plans: map[reflect.Type]*plan{}} }

// plan is what a struct type takes: its fields by key.
type plan struct {
	fields map[string][]int
	keys   []string
}

var (
	durationType  = reflect.TypeFor[time.Duration]()
	unmarshalType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *Decoder) plan(t reflect.Type) *plan {
	if p := d.plans[t]; p != nil {
		return p
	}
	p := &plan{fields: map[string][]int{}}
	d.addFields(p, t, nil)
	p.keys = sortedKeys(p.fields)
	d.plans[t] = p
	return p
}

func (d *Decoder) addFields(p *plan, t reflect.Type, above []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), above...), i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			d.addFields(p, f.Type, index)
		case f.IsExported() && name != "" && name != "-":
			p.fields[name] = index
		}
	}
}

// Keys returns the keys that a struct, or pointer to one, takes, in order.
func (d *Decoder) Keys(value any) []string {
	t := reflect.TypeOf(value)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return d.plan(t).keys
}

// Decode decodes a node into what the pointer points to and returns everything
// that does not fit.
func (d *Decoder) Decode(n *Node, into any) []Problem {
	run := &decoding{d: d}
	run.value(n, reflect.ValueOf(into).Elem())
	return run.problems
}

// Set decodes a node into the field of the struct that has the key.
func (d *Decoder) Set(key *Node, value *Node, into any) []Problem {
	run := &decoding{d: d}
	run.field(key, value, reflect.ValueOf(into).Elem(), d.plan(reflect.TypeOf(into).Elem()))
	return run.problems
}

type decoding struct {
	d        *Decoder
	problems []Problem
}

func (r *decoding) wrong(n *Node, format string, args ...any) {
	r.problems = append(r.problems, n.Problem(format, args...))
}

func (r *decoding) value(n *Node, v reflect.Value) {
	if n.Open {
		return
	}
	if n.Kind == Scalar && n.Templated && takesStructure(v.Type()) {
		n = r.structure(n)
		if n == nil {
			return
		}
	}
	long := n.Kind == Map && r.d.takesMap(v.Type())
	if !long && reflect.PointerTo(v.Type()).Implements(unmarshalType) {
		r.text(n, v)
		return
	}
	if v.Type() == durationType {
		r.duration(n, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		before := len(r.problems)
		r.value(n, fresh.Elem())
		if len(r.problems) == before {
			v.Set(fresh)
		}
	case reflect.Struct:
		r.fields(n, v)
	case reflect.Slice:
		r.list(n, v)
	case reflect.Map:
		r.entries(n, v)
	case reflect.Interface:
		v.Set(reflect.ValueOf(&[]any{n.Any()}[0]).Elem())
	default:
		r.scalar(n, v)
	}
}

// takesMap reports whether a type has keys. One that can be written as a text,
// too, is for what has a short form and a long one.
func (d *Decoder) takesMap(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && len(d.plan(t).keys) > 0
}

// takesStructure reports whether a type is written as a list or a map.
func takesStructure(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(unmarshalType) {
		return false
	}
	return t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Struct
}

// structure reads the text that a template made for a list or map as YAML, of
// which JSON is a part.
func (r *decoding) structure(n *Node) *Node {
	docs, problems := Parse([]byte(n.Value))
	if len(problems) > 0 || len(docs) != 1 || docs[0].Kind == Scalar {
		r.wrong(n, "%s, which the template makes, is not a list or map: use toJson", n.What())
		return nil
	}
	return FromAny(docs[0].Any(), n)
}

func (r *decoding) fields(n *Node, v reflect.Value) {
	if n.Kind != Map {
		r.wrong(n, "%s where a map is wanted", n.What())
		return
	}
	p := r.d.plan(v.Type())
	for _, pair := range n.Pairs {
		r.field(pair.Key, pair.Value, v, p)
	}
}

func (r *decoding) field(key, value *Node, v reflect.Value, p *plan) {
	index, ok := p.fields[key.Value]
	if !ok {
		problem := key.Problem("unknown key %q", shorten(key.Value))
		problem.Suggestion = Nearest(key.Value, p.keys)
		r.problems = append(r.problems, problem)
		return
	}
	before := len(r.problems)
	r.value(value, v.FieldByIndex(index))
	// Say which key a wrong value belongs to, once: the innermost.
	for i := before; i < len(r.problems); i++ {
		if at := &r.problems[i]; at.Line == value.Line && at.Column == value.Column {
			at.Message = key.Value + ": " + at.Message
		}
	}
}

func (r *decoding) list(n *Node, v reflect.Value) {
	if n.Kind != List {
		r.wrong(n, "%s where a list is wanted%s", n.What(), asList(n))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
	for i, item := range n.Items {
		r.value(item, list.Index(i))
	}
	v.Set(list)
}

func asList(n *Node) string {
	if n.Kind == Scalar && n.Type != Null && !n.Hidden && len(n.Value) < 60 {
		return fmt.Sprintf(": write [%s]", n.Value)
	}
	return ""
}

func (r *decoding) entries(n *Node, v reflect.Value) {
	if n.Kind != Map {
		r.wrong(n, "%s where a map is wanted", n.What())
		return
	}
	if v.Type().Key().Kind() != reflect.String {
		r.wrong(n, "cannot decode into %s", v.Type())
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Pairs))
	for _, p := range n.Pairs {
		item := reflect.New(v.Type().Elem()).Elem()
		r.value(p.Value, item)
		m.SetMapIndex(reflect.ValueOf(p.Key.Value).Convert(v.Type().Key()), item)
	}
	v.Set(m)
}

func (r *decoding) text(n *Node, v reflect.Value) {
	if n.Kind != Scalar {
		r.wrong(n, "%s where one value is wanted", n.What())
		return
	}
	if n.Type == Null {
		r.wrong(n, noValue)
		return
	}
	err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value))
	switch {
	case err != nil && n.Hidden:
		r.wrong(n, "not in the right form")
	case err != nil:
		r.wrong(n, "%v", err)
	}
}

func (r *decoding) duration(n *Node, v reflect.Value) {
	t, err := time.ParseDuration(n.Value)
	switch {
	case n.Kind != Scalar || n.Type == Null || n.Type == Bool:
		r.wrong(n, "%s where a duration is wanted, such as 5m", n.What())
	case err != nil && isDigits(n.Value) && !n.Hidden:
		r.wrong(n, "%s is no duration without a unit: write %ss or %sm", n.What(), n.Value, n.Value)
	case err != nil:
		r.wrong(n, "%s is no duration: write a number and a unit, such as 90s, 5m or 2h", n.What())
	default:
		v.SetInt(int64(t))
	}
}

const noValue = "no value: give one, or leave the key out"

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func (r *decoding) scalar(n *Node, v reflect.Value) {
	if n.Kind != Scalar {
		r.wrong(n, "%s where %s is wanted", n.What(), wanted(v.Kind()))
		return
	}
	if n.Type == Null {
		r.wrong(n, noValue)
		return
	}
	switch v.Kind() {
	case reflect.String:
		// A number is taken as it is written. A boolean more often stands where
		// another word was meant.
		if n.Type == Bool {
			r.wrong(n, "%s where text is wanted: put it in quotes if that is meant", n.What())
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		r.boolean(n, v)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if !r.number(n, err, Int) || v.OverflowInt(i) || octal(n.Value) {
			r.wrong(n, "%s where a whole number is wanted", n.What())
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, err := strconv.ParseUint(n.Value, 10, 64)
		if !r.number(n, err, Int) || v.OverflowUint(i) || octal(n.Value) {
			r.wrong(n, "%s where a whole number of 0 or more is wanted", n.What())
			return
		}
		v.SetUint(i)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		if !r.number(n, err, Float) {
			r.wrong(n, "%s where a number is wanted", n.What())
			return
		}
		v.SetFloat(f)
	default:
		r.wrong(n, "cannot decode into %s", v.Type())
	}
}

// octal reports whether a number has a leading zero, which some readers take
// for base eight and some do not.
func octal(s string) bool {
	s = strings.TrimLeft(s, "+-")
	return len(s) > 1 && s[0] == '0'
}

// number reports whether a scalar that parsed with err was written as a number.
func (r *decoding) number(n *Node, err error, t Type) bool {
	return err == nil && (n.Templated || n.Type == Int || n.Type == t)
}

func (r *decoding) boolean(n *Node, v reflect.Value) {
	if n.Type == Bool || n.Templated && (n.Value == "true" || n.Value == "false") {
		v.SetBool(strings.EqualFold(n.Value, "true"))
		return
	}
	fix := ""
	switch strings.ToLower(n.Value) {
	case "yes", "on", "y", "1", "true":
		fix = ": write true"
	case "no", "off", "n", "0", "false":
		fix = ": write false"
	}
	r.wrong(n, "%s where true or false is wanted%s", n.What(), fix)
}

func wanted(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	default:
		return "a number"
	}
}
