/* TLS over a blocking socket, with many records in one system call: OpenSSL alone makes one or
 * two for each record of 16 KiB. */

#ifndef NULL_TLS_H
#define NULL_TLS_H

#include <openssl/ssl.h>

void tls_read_ahead(SSL_CTX *context);

/* A session over the socket, before its handshake. What is written goes out with the next
 * tls_flush, if not before. Ends with SSL_free; the socket stays open. */
SSL *tls_session(SSL_CTX *context, int socket);

/* False where the connection broke. */
int tls_flush(SSL *session);

#endif
