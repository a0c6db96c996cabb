/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "sdp/effective.h"

struct effective effective_of(const struct sdp *d, unsigned index, const char *name)
{
	const struct sdp_section *media = &d->media[index].s;
	unsigned at = 0;
	bool own = sdp_attr_next(media, name, &at) != NULL;

	return (struct effective){ own ? media : &d->session, name, 0 };
}

const struct sdp_attr *effective_next(struct effective *e)
{
	return sdp_attr_next(e->section, e->name, &e->at);
}

const struct sdp_attr *effective_one(const struct sdp *d, unsigned index, const char *name, bool *ret_twice)
{
	struct effective e = effective_of(d, index, name);
	const struct sdp_attr *first = effective_next(&e);

	*ret_twice = first && effective_next(&e);
	return first;
}

const struct sdp_attr *effective_setup(const struct sdp *d, unsigned index, bool *ret_twice)
{
	const struct sdp_attr *a = effective_one(d, index, "ike-setup", ret_twice);

	return a ? a : effective_one(d, index, "udp-setup", ret_twice);
}
