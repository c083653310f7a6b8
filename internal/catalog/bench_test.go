package catalog_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/catalog"
)

// BenchmarkLoad loads 5,000 files in two groups, a tenth of them templates.
func BenchmarkLoad(b *testing.B) {
	tree := fstest.MapFS{
		"groups/web/group.yaml":   {Data: []byte("include: [groups/base]\nvars: {domain: example.org}\n")},
		"groups/web/files/x":      {Data: []byte("x")},
		"groups/web/templates/t":  {Data: []byte("server {{ vars.domain }} {{ facts.os.id }}\n")},
		"groups/base/files/x":     {Data: []byte("x")},
		"groups/base/templates/t": {Data: []byte("server {{ vars.domain }} {{ facts.os.id }}\n")},
	}
	for _, group := range []string{"base", "web"} {
		for m := range 50 {
			var text strings.Builder
			for i := range 50 {
				fmt.Fprintf(&text, "- file: /etc/%s/%d/%d\n  owner: root\n  group: root\n  mode: \"0644\"\n", group, m, i)
				switch i % 10 {
				case 0:
					text.WriteString("  template: templates/t\n")
				case 1:
					text.WriteString("  content: \"domain {{ vars.domain }}\"\n  when: facts.os.family == \"debian\"\n")
				default:
					text.WriteString("  source: files/x\n")
				}
			}
			tree[fmt.Sprintf("groups/%s/%02d.yaml", group, m)] = &fstest.MapFile{Data: []byte(text.String())}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		c, err := catalog.Load(input(tree))
		if err != nil || len(c.Entries) != 5000 {
			b.Fatal(err)
		}
	}
}
