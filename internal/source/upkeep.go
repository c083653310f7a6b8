package source

import "context"

func (c *cache) verifySometimes(context.Context)  {}
func (c *cache) compactSometimes(context.Context) {}
