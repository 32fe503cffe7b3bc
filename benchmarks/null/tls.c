#include "tls.h"

#include <openssl/bio.h>

#define RECORDS_BYTES (256 << 10) /* at once */

void tls_read_ahead(SSL_CTX *context)
{
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, RECORDS_BYTES);
}

SSL *tls_session(SSL_CTX *context, int socket)
{
    SSL *session = SSL_new(context);
    BIO *plain = BIO_new_socket(socket, BIO_NOCLOSE), *records = BIO_new(BIO_f_buffer());
    BIO_set_write_buffer_size(records, RECORDS_BYTES);
    BIO_up_ref(plain); /* one for each direction */
    SSL_set0_rbio(session, plain);
    SSL_set0_wbio(session, BIO_push(records, plain));
    return session;
}

int tls_flush(SSL *session)
{
    return BIO_flush(SSL_get_wbio(session)) > 0;
}
