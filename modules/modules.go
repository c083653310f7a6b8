// Package modules lists every kind of resource that there is.
//
// A new kind is one folder and one line here.
package modules

import (
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules/archive"
	"trued.dev/trued/modules/block"
	"trued.dev/trued/modules/cacertificate"
	"trued.dev/trued/modules/checkout"
	"trued.dev/trued/modules/command"
	"trued.dev/trued/modules/cron"
	"trued.dev/trued/modules/directory"
	"trued.dev/trued/modules/download"
	"trued.dev/trued/modules/file"
	"trued.dev/trued/modules/group"
	"trued.dev/trued/modules/hostname"
	"trued.dev/trued/modules/ini"
	"trued.dev/trued/modules/kernelmodule"
	"trued.dev/trued/modules/key"
	"trued.dev/trued/modules/line"
	"trued.dev/trued/modules/link"
	"trued.dev/trued/modules/locale"
	"trued.dev/trued/modules/logrotate"
	"trued.dev/trued/modules/mount"
	"trued.dev/trued/modules/pkg"
	"trued.dev/trued/modules/repository"
	"trued.dev/trued/modules/sudoers"
	"trued.dev/trued/modules/sysctl"
	"trued.dev/trued/modules/timer"
	"trued.dev/trued/modules/timezone"
	"trued.dev/trued/modules/unit"
	"trued.dev/trued/modules/user"
)

// All returns one module of each kind for a host.
func All(h *host.Host) []resource.Module {
	return []resource.Module{
		file.New(h),
		directory.New(h),
		link.New(h),
		pkg.New(h),
		unit.New(h),
		sysctl.New(h),
		group.New(h),
		user.New(h),
		key.New(h),
		command.New(h),
		line.New(h),
		block.New(h),
		ini.New(h),
		hostname.New(h),
		timezone.New(h),
		sudoers.New(h),
		logrotate.New(h),
		cacertificate.New(h),
		download.New(h),
		archive.New(h),
		checkout.New(h),
		timer.New(h),
		cron.New(h),
		repository.New(h),
		kernelmodule.New(h),
		locale.New(h),
		mount.New(h),
	}
}
