/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "daemon/state.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crypto/secret.h"

static enum err fail(const char *path, const char *what)
{
	(void)fprintf(stderr, "tielined: %s: %s\n", path, what);
	return ERR_SYSTEM;
}

enum err state_read_fd(int fd, char **ret, size_t *ret_len)
{
	char *text = malloc(CONF_FILE_MAX + 1);
	size_t len = 0;

	if (!text)
		return ERR_NOMEM;
	while (len <= CONF_FILE_MAX) {
		ssize_t n = read(fd, text + len, CONF_FILE_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			free(text);
			return ERR_SYSTEM;
		}
		if (!n)
			break;
		len += (size_t)n;
	}
	if (len > CONF_FILE_MAX) {
		free(text);
		return ERR_LIMIT;
	}
	*ret = text;
	*ret_len = len;
	return OK;
}

enum err state_read(const char *path, char **ret, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	enum err e;

	if (fd < 0)
		return errno == ENOENT ? ERR_NOTFOUND : ERR_SYSTEM;
	e = state_read_fd(fd, ret, ret_len);
	close(fd);
	return e;
}

static bool write_all(int fd, struct span s)
{
	while (s.len) {
		ssize_t n = write(fd, s.p, s.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		s = span_from(s, (size_t)n);
	}
	return true;
}

enum err state_write(const char *dir, const char *name, struct span text)
{
	char path[512], temporary[512];
	int fd;
	bool good;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path) ||
	    snprintf(temporary, sizeof(temporary), "%s/%s.new", dir, name) >= (int)sizeof(temporary))
		return ERR_LIMIT;
	(void)unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return ERR_SYSTEM;
	good = write_all(fd, text) && !fsync(fd);
	good = !close(fd) && good && !rename(temporary, path);
	if (!good)
		(void)unlink(temporary);
	return good ? OK : ERR_SYSTEM;
}

/* ---- configuration ---- */

static enum err read_password(struct cfg_account *a)
{
	struct stat st;
	char *text;
	size_t len;
	struct span line, rest;
	enum err e;

	if (!a->password_file[0])
		return OK;
	if (stat(a->password_file, &st))
		return fail(a->password_file, strerror(errno));
	if (st.st_mode & 077)
		return fail(a->password_file, "others can read it; expected mode 0600");
	e = state_read(a->password_file, &text, &len);
	if (e != OK)
		return fail(a->password_file, "cannot be read");
	line = span_trim(span_cut(span_of(text, len), '\n', &rest));
	e = line.len ? span_copy_str(line, a->password, sizeof(a->password)) : ERR_MALFORMED;
	secret_wipe(text, len);
	free(text);
	return e == OK ? OK : fail(a->password_file, "expected one line with the password");
}

/* The engine could not: it is confined, and the file may be root's alone. */
static enum err read_ca(struct cfg_peer *p)
{
	char *text;
	size_t len;
	enum err e;

	if (!p->ca_file[0])
		return OK;
	e = state_read(p->ca_file, &text, &len);
	if (e != OK)
		return fail(p->ca_file, e == ERR_NOTFOUND ? "no such file" : "cannot be read");
	e = config_set_ca(p, span_of(text, len));
	free(text);
	return e == OK ? OK : fail(p->ca_file, "expected the certificate of a CA (PEM; basicConstraints CA:TRUE)");
}

/* A password in the file itself is as secret as the file. */
static void warn_of_readers(const char *path, const struct config *c)
{
	struct stat st;
	const char *what = NULL;

	for (unsigned i = 0; i < c->n_accounts; i++)
		if (!c->accounts[i].password_file[0])
			what = "password";
	for (unsigned i = 0; i < c->n_peers; i++)
		if (c->peers[i].psk.len || c->peers[i].ppk.len)
			what = "shared key";
	if (what && !stat(path, &st) && (st.st_mode & 077))
		(void)fprintf(stderr, "tielined: %s: others can read it, and the %s in it; mode 0600 is right\n", path,
			      what);
}

enum err state_config(const char *path, struct config **ret)
{
	struct conf_error why = { .line = 0 };
	struct config *c = NULL;
	char *text;
	size_t len;
	enum err e = state_read(path, &text, &len);

	if (e != OK)
		return fail(path, e == ERR_NOTFOUND ? "no such file" : "cannot be read");
	e = config_parse(path, span_of(text, len), &c, &why);
	secret_wipe(text, len);
	free(text);
	if (e != OK) {
		(void)fprintf(stderr, "tielined: %s\n", e == ERR_NOMEM ? "out of memory" : why.text);
		return e;
	}
	for (unsigned i = 0; e == OK && i < c->n_accounts; i++)
		e = read_password(&c->accounts[i]);
	for (unsigned i = 0; e == OK && i < c->n_peers; i++)
		e = read_ca(&c->peers[i]);
	if (e != OK) {
		config_free(c);
		return e;
	}
	warn_of_readers(path, c);
	*ret = c;
	return OK;
}

/* ---- directories ---- */

static enum err user_of(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
	struct passwd *p = getpwnam(name);

	if (!p) {
		(void)fprintf(stderr,
			      "tielined: no user \"%s\" ([daemon] user); make one, e.g. with\n"
			      "  useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin %s\n",
			      name, name);
		return ERR_NOTFOUND;
	}
	*ret_uid = p->pw_uid;
	*ret_gid = p->pw_gid;
	return OK;
}

enum err state_directory(const char *dir, const char *user, unsigned mode)
{
	uid_t uid;
	gid_t gid;
	enum err e = user_of(user, &uid, &gid);

	if (e != OK)
		return e;
	/* what we make has this mode whatever the umask says; what was there keeps its own */
	if (mkdir(dir, mode) ? errno != EEXIST : chmod(dir, mode))
		return fail(dir, strerror(errno));
	if (!geteuid() && lchown(dir, uid, gid))
		return fail(dir, strerror(errno));
	return OK;
}

enum err state_give(const char *dir, const char *user)
{
	static const char *const names[] = { "identity.key", "identity.crt", "pins", "audit.log" };
	uid_t uid;
	gid_t gid;
	enum err e = user_of(user, &uid, &gid);

	for (size_t i = 0; e == OK && i < sizeof(names) / sizeof(names[0]); i++) {
		char path[512];

		if (snprintf(path, sizeof(path), "%s/%s", dir, names[i]) >= (int)sizeof(path))
			return fail(dir, "too long");
		if (!geteuid() && lchown(path, uid, gid) && errno != ENOENT)
			e = fail(path, strerror(errno));
	}
	return e;
}

/* ---- identity ---- */

static unsigned mails_of(const struct config *cfg, const char *mails[CFG_ACCOUNTS_MAX])
{
	for (unsigned i = 0; i < cfg->n_accounts; i++)
		mails[i] = cfg->accounts[i].aor + 4;
	return cfg->n_accounts;
}

static enum err save_identity(const char *dir, const struct identity *id)
{
	char *key, *cert;
	enum err e = identity_pem(id, &key, &cert);

	if (e != OK)
		return e;
	e = state_write(dir, "identity.key", span_str(key));
	if (e == OK)
		e = state_write(dir, "identity.crt", span_str(cert));
	secret_wipe(key, strlen(key));
	free(key);
	free(cert);
	return e;
}

static enum err load_identity(const char *dir, struct identity **ret)
{
	char path[512], *key = NULL, *cert = NULL;
	size_t key_len = 0, cert_len = 0;
	enum err e;

	(void)snprintf(path, sizeof(path), "%s/identity.key", dir);
	e = state_read(path, &key, &key_len);
	if (e != OK)
		return e;
	(void)snprintf(path, sizeof(path), "%s/identity.crt", dir);
	e = state_read(path, &cert, &cert_len);
	if (e == OK)
		e = identity_load(span_of(key, key_len), span_of(cert, cert_len), ret);
	else
		e = ERR_SYSTEM; /* a key without its certificate is not to be replaced silently */
	secret_wipe(key, key_len);
	free(key);
	free(cert);
	return e;
}

enum err state_identity(const char *dir, const struct config *cfg, struct identity **ret)
{
	const char *mails[CFG_ACCOUNTS_MAX];
	unsigned n = mails_of(cfg, mails);
	struct identity *id = NULL, *renewed;
	enum err e = load_identity(dir, &id);
	bool changed = e == ERR_NOTFOUND;

	if (changed)
		e = identity_generate(mails, n, (int64_t)time(NULL), &id);
	for (unsigned i = 0; e == OK && i < n && !changed; i++)
		if (!identity_has_aor(id, mails[i])) {
			e = identity_renew(id, mails, n, (int64_t)time(NULL), &renewed);
			if (e == OK) {
				identity_free(id);
				id = renewed;
				changed = true;
			}
		}
	if (e == OK && changed)
		e = save_identity(dir, id);
	if (e != OK) {
		identity_free(id);
		return fail(dir, "identity.key and identity.crt cannot be read or written");
	}
	*ret = id;
	return OK;
}

enum err state_trust(const char *dir, const struct config *cfg, struct trust **ret)
{
	char path[512], *text = NULL;
	size_t len = 0;
	struct conf_error why = { .line = 0 };
	struct trust *t = NULL;
	enum err e;

	(void)snprintf(path, sizeof(path), "%s/pins", dir);
	e = state_read(path, &text, &len);
	if (e != OK && e != ERR_NOTFOUND)
		return fail(path, "cannot be read");
	e = trust_new(&t);
	if (e == OK)
		e = trust_load(t, path, span_of(text, len), cfg, &why);
	free(text);
	if (e != OK) {
		(void)fprintf(stderr, "tielined: %s\n", why.text[0] ? why.text : err_name(e));
		trust_free(t);
		return e;
	}
	*ret = t;
	return OK;
}
