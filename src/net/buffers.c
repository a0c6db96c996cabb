/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/buffers.h"

#include <stdlib.h>

_Static_assert(sizeof(struct net_buffers) == 1088 * 1024, "as it is said to be");

struct net_buffers *net_buffers_new(void)
{
	/* of this size it is of pages of its own, which are there once they are used */
	return calloc(1, sizeof(struct net_buffers));
}

void net_buffers_free(struct net_buffers *b)
{
	free(b);
}
