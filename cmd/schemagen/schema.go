package main

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

// A schema is a part of a JSON Schema of draft 7, which is what editors know.
type schema map[string]any

const (
	draft = "http://json-schema.org/draft-07/schema#"
	place = "https://trued.dev/schema/"
	// templated is what a string has that stands for another type.
	templated = `\{\{`
)

// manifest is the schema of a manifest: a list of resources.
func manifest() schema {
	kinds := kindsOf(modules.All(host.New("/", host.Options{})))
	definitions, names, chosen, then := schema{}, schema{}, []schema{}, []schema{}
	for _, k := range kinds {
		definitions[k.name] = k.schema()
		names[k.name] = schema{"description": k.doc}
		is := k.is(kinds)
		chosen = append(chosen, is)
		then = append(then, schema{"if": is, "then": schema{"$ref": "#/definitions/" + k.name}})
	}
	definitions["resource"] = schema{
		"type": "object", "description": "One resource: a key that is a kind, whose value is the name, and attributes.",
		"properties": names, "anyOf": chosen, "allOf": then,
	}
	return schema{
		"$schema": draft, "$id": place + "manifest.schema.json", "title": "Manifest of trued",
		"description": "A list of resources.",
		"type":        []string{"array", "null"}, "items": schema{"$ref": "#/definitions/resource"}, "definitions": definitions,
	}
}

// A kind is what is known of one kind of resource.
type kind struct {
	name, doc string
	// attributes are the schemas of its own keys, the name left out.
	attributes schema
}

func kindsOf(all []resource.Module) []kind {
	var kinds []kind
	for _, m := range all {
		k := kind{name: m.Kind(), attributes: schema{}}
		k.add(reflect.TypeOf(m.New()).Elem())
		kinds = append(kinds, k)
	}
	return kinds
}

// add reads the keys off a type, but for those of every kind.
func (k *kind) add(t reflect.Type) {
	for _, f := range fields(t) {
		if key := keyOf(f); key == k.name {
			k.doc = f.Tag.Get("doc")
		} else {
			k.attributes[key] = attribute(f)
		}
	}
}

// fields lists the fields of a type that have keys, but for those of every kind.
func fields(t reflect.Type) []reflect.StructField {
	var list []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		_, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch key := keyOf(f); {
		case f.Type == reflect.TypeFor[resource.Meta]():
		case options == "inline":
			list = append(list, fields(f.Type)...)
		case f.IsExported() && key != "" && key != "-":
			list = append(list, f)
		}
	}
	return list
}

func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

// is tells an item of the kind from others: it has the key, and no other key
// that is a kind but for those that are attributes of this one, such as `group`.
func (k kind) is(kinds []kind) schema {
	others := schema{}
	for _, other := range kinds {
		if _, own := k.attributes[other.name]; other.name != k.name && !own {
			others[other.name] = false
		}
	}
	return schema{"required": []string{k.name}, "properties": others}
}

// schema is that of an item of the kind.
func (k kind) schema() schema {
	properties := schema{
		k.name: schema{
			"description": k.doc, "type": []string{"string", "number", "array"},
			"items": schema{"type": []string{"string", "number"}, "minLength": 1}, "minLength": 1,
		},
		"when":     schema{"description": "an expression over facts and vars; false: not on this host", "type": []string{"string", "boolean"}, "minLength": 1},
		"for_each": schema{"description": "one resource for each: a list, a map, or an expression that makes one; each.key and each.value in every string", "type": []string{"array", "object", "string"}},
		"override": schema{"description": "true: lay these attributes over those of the included resource of the same address", "type": "boolean"},
		"raw":      schema{"description": "true: strings are taken as they are, {{ }} included", "type": "boolean"},
	}
	for key, s := range k.attributes {
		properties[key] = s
	}
	for _, f := range fields(reflect.TypeFor[resource.Meta]()) {
		properties[keyOf(f)] = attribute(f)
	}
	return schema{"type": "object", "required": []string{k.name}, "properties": properties, "additionalProperties": false}
}

// attribute is the schema of one key.
func attribute(f reflect.StructField) schema {
	s := takes(f.Type)
	if doc := f.Tag.Get("doc"); doc != "" {
		s["description"] = doc
	}
	if words := f.Tag.Get("words"); words != "" {
		// The words first, for an editor to offer them.
		s = schema{"description": s["description"], "anyOf": []schema{
			{"enum": strings.Split(words, ",")}, {"type": "string", "pattern": templated},
		}}
	}
	return s
}

// takes is the schema of a type, as the loader decodes it. What is not text may
// be a template that makes it.
func takes(t reflect.Type) schema {
	or := func(word string) schema { return schema{"type": []string{word, "string"}, "pattern": templated} }
	switch {
	case t == reflect.TypeFor[resource.Mode]():
		return schema{"type": []string{"string", "integer"}, "pattern": "^0o?[0-7]{3,4}$|" + templated}
	case t == reflect.TypeFor[time.Duration]():
		return schema{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|` + templated}
	case t.Kind() == reflect.Pointer:
		return takes(t.Elem())
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		text := schema{"type": []string{"string", "number", "boolean"}}
		if t.Kind() == reflect.Struct && len(fields(t)) > 0 { // it has a long form
			return schema{"anyOf": []schema{text, object(t)}}
		}
		return text
	}
	switch t.Kind() {
	case reflect.String:
		return schema{"type": []string{"string", "number"}}
	case reflect.Bool:
		return or("boolean")
	case reflect.Slice:
		s := or("array")
		s["items"] = takes(t.Elem())
		return s
	case reflect.Map:
		s := or("object")
		s["additionalProperties"] = takes(t.Elem())
		return s
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return or("integer")
	case reflect.Struct:
		return object(t)
	}
	panic(fmt.Sprintf("no schema is known for %s", t))
}

// object is the schema of what has keys of its own.
func object(t reflect.Type) schema {
	properties := schema{}
	for _, f := range fields(t) {
		properties[keyOf(f)] = attribute(f)
	}
	return schema{"type": []string{"object", "string"}, "pattern": templated, "properties": properties, "additionalProperties": false}
}

// groupFile is the schema of group.yaml.
func groupFile() schema {
	list := func(doc string) schema {
		return schema{"description": doc, "type": "array", "items": schema{"type": "string"}}
	}
	return schema{
		"$schema": draft, "$id": place + "group.schema.json", "title": "group.yaml of trued",
		"type": []string{"object", "null"}, "additionalProperties": false,
		"properties": schema{
			"include":        list("groups that come first, by their path from the root of the repository"),
			"exclude":        list("addresses, or globs of them, of included resources that are left out"),
			"vars":           schema{"description": "what templates and expressions read as vars", "type": "object"},
			"requires_trued": schema{"description": "which versions of the agent can take this group, such as >= 1.2", "type": "string"},
			"allow_empty":    schema{"description": "true: a group without any resource is meant", "type": "boolean"},
			"health": schema{
				"description":          "probes of whether the host is healthy, by name; null takes one of an included group away",
				"type":                 "object",
				"additionalProperties": probe(),
			},
			"prune_limit": schema{"description": "how many claims may leave at once without --accept-prune", "type": "integer", "minimum": 0},
			"windows":     windows(),
			"reboot":      reboot(),
		},
	}
}

// reboot is the schema of whether a host may reboot by itself.
func reboot() schema {
	text := func(doc string) schema { return schema{"description": doc, "type": "string"} }
	return schema{"description": "whether a host of the group may reboot by itself when a package asks for it", "type": "object", "additionalProperties": false, "properties": schema{
		"allow": schema{"description": "true: after a run, when a package asks for it; false", "type": "boolean"},
		"window": schema{"description": "when; at any time", "type": "object", "additionalProperties": false, "required": []string{"calendar", "for"}, "properties": schema{
			"calendar": text("when it begins, as systemd's OnCalendar"), "for": text("how long it lasts, such as 4h"), "timezone": text("the time zone of calendar; the host's"),
		}},
	}}
}

// windows is the schema of when a group may be changed.
func windows() schema {
	words := func(doc string, of ...string) schema {
		item := schema{"type": "string"}
		if len(of) > 0 {
			item["enum"] = of
		}
		return schema{"description": doc, "type": "array", "items": item}
	}
	text := func(doc string) schema { return schema{"description": doc, "type": "string"} }
	list := func(doc string) schema {
		return schema{"description": doc, "type": "array", "items": schema{
			"type": "object", "additionalProperties": false, "required": []string{"calendar", "for"},
			"properties": schema{
				"calendar":  text("when it begins, as systemd's OnCalendar, such as Mon..Fri 22:00"),
				"for":       text("how long it lasts, such as 4h"),
				"timezone":  text("the time zone of calendar, such as Europe/Berlin; the host's"),
				"causes":    words("why it is changed; all of them", "intended", "drift", "prune"),
				"kinds":     words("kinds of resources; all"),
				"resources": words("addresses, or globs of them; all"),
			},
		}}
	}
	return schema{"description": "when what is in the group may be changed", "type": "object", "additionalProperties": false, "properties": schema{
		"allow": list("what they name is changed within one of them alone"),
		"deny":  list("what they name is not changed within any of them, whatever is allowed"),
	}}
}

// probe is the schema of one of group.yaml's probes.
func probe() schema {
	s := object(reflect.TypeFor[catalog.Probe]())
	s["type"] = []string{"object", "null"}
	delete(s, "pattern")
	return s
}

// hostsFile is the schema of hosts.yaml.
func hostsFile() schema {
	return schema{
		"$schema": draft, "$id": place + "hosts.schema.json", "title": "hosts.yaml of trued",
		"description": "Which host is in which group: by name, or by a glob of it.",
		"type":        []string{"object", "null"},
		"additionalProperties": schema{
			"type": "object", "additionalProperties": false,
			"properties": schema{
				"group": schema{"description": "the group's path from the root of the repository", "type": "string"},
				"vars":  schema{"description": "vars for these hosts", "type": "object"},
			},
		},
	}
}
