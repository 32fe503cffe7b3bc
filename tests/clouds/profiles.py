"""The clouds as they are documented or reported: each difference with its source, as data.

A difference is one from the local server that stands in for the cloud: Azurite for Azure, SeaweedFS
for everything that speaks S3. Rates and counts that a test could not reach are scaled down where a
rule says so; CLOUDS.md shows `what`, which has the real ones. A difference without a rule cannot be
played here; it is told all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.clouds.rules import (
    ATTRIBUTED,
    READS,
    WRITES,
    AnswersWith,
    ForgetsUploads,
    HoldsParts,
    PassesOver,
    Refuses,
    Rule,
    StatesChecksums,
    Throttles,
    WantsEqualParts,
)
from tests.support.fault_proxy.rules import Operation

_EVERYTHING = tuple(Operation)
_CRC64NVME = ("x-amz-checksum-crc64nvme", "x-amz-checksum-algorithm", "x-amz-checksum-type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    what: str
    """What the cloud does, in one line."""
    source: str
    """The address that says so."""
    noria: str
    """What Noria does about it, in one line."""
    rule: Rule | None = None
    """Plays it. None: it is told, but cannot be played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudProfile:
    name: str
    """A word, for tests."""
    title: str
    differences: tuple[Difference, ...]
    azure: bool = False
    host: str | None = None
    """An endpoint of it. None: it has no host name of its own."""
    provider: str = "s3"
    """Whose limits hold there: what Noria makes of the host, or of the answers."""
    keeps_tags: bool = True
    facts: Mapping[str, object] = field(default_factory=dict)
    """What the probe is to find, as job.json has it."""
    tags_left_as: str = "tags_refused"
    """How a report counts tags that it does not keep."""
    shows_tags: bool = True
    """False: whoever asks for tags is refused."""


_TAGS_LEFT = 'refused by name; with `run.unfit_tags = "leave"` objects land and count as such'
_ONE_A_SECOND = "writes each name once; the probe, which races, goes on without who is refused"
_PROBED = "the probe finds it out, and the target is looked at before and after each write"

_AWS = CloudProfile(
    name="aws",
    title="Amazon S3",
    host="https://s3.eu-west-3.amazonaws.com",
    provider="aws",
    facts={"checksum": "crc64nvme", "if_absent": True, "trailers": True, "provider": "aws"},
    differences=(
        Difference(
            what="503 SlowDown for one prefix while others are free",
            source="https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html",
            noria="slows that prefix down alone, and tries again",
            rule=Throttles(
                operations=(Operation.PUT,), per_second=5, status=503, code="SlowDown", name="/hot/"
            ),
        ),
        Difference(
            what="409 ConditionalRequestConflict to a conditional PUT beside another write",
            source="https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html",
            noria="sends the object again",
            rule=Refuses(
                operations=(Operation.PUT,),
                status=409,
                code="ConditionalRequestConflict",
                header="if-none-match",
                first=1,
                one_name_in=4,
            ),
        ),
        Difference(
            what="409 ConditionalRequestConflict to a conditional CompleteMultipartUpload",
            source="https://docs.aws.amazon.com/sdk-for-kotlin/api/latest/s3/aws.sdk.kotlin.services.s3.model/-complete-multipart-upload-request/if-none-match.html",
            noria="starts another upload, as documented",
            rule=Refuses(
                operations=(Operation.COMPLETE,),
                status=409,
                code="ConditionalRequestConflict",
                header="if-none-match",
                first=1,
            ),
        ),
        Difference(
            what="404 NoSuchKey to a PUT or DELETE with If-Match of an object that is gone; "
            "Azurite, SeaweedFS: 412",
            source="https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html",
            noria="takes either for gone: writes it as a new one, or counts it as deleted",
        ),
        Difference(
            what="307 TemporaryRedirect, up to a day after a bucket was made",
            source="https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html",
            noria="tries again where it asked: its endpoint is that of the region",
            rule=Refuses(
                operations=(*READS, Operation.PUT, Operation.CREATE),
                status=307,
                code="TemporaryRedirect",
                message="Please re-send this request to the specified temporary endpoint.",
                first=1,
                one_name_in=7,
                headers={
                    "location": "https://bucket.s3.eu-west-3.amazonaws.com/",
                    "x-amz-bucket-region": "eu-west-3",
                },
            ),
        ),
        Difference(
            what="301 PermanentRedirect to requests for another region's bucket",
            source="https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html",
            noria="stops before anything is written, and names the bucket's region",
        ),
        Difference(
            what="200 with `<Error>` in the body of CompleteMultipartUpload",
            source="https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html",
            noria="takes the body's word: looks at the target, then completes again",
            rule=Refuses(
                operations=(Operation.COMPLETE,), status=200, code="InternalError", first=1
            ),
        ),
        Difference(
            what="white space before the result of CompleteMultipartUpload, while it works",
            source="https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html",
            noria="waits for ten minutes, and passes over it",
            rule=AnswersWith(operations=(Operation.COMPLETE,), within_xml=b"\n\n   \n"),
        ),
        Difference(
            what="400 RequestTimeout if a body comes too slowly",
            source="https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html",
            noria="sends the part again",
            rule=Refuses(operations=(Operation.PART,), status=400, code="RequestTimeout", first=1),
        ),
        Difference(
            what="Server: AmazonS3, as many others claim",
            source="https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html",
            noria="takes the host's name for it, never this header",
            rule=AnswersWith(headers={"server": "AmazonS3"}),
        ),
    ),
)

_AWS_UNTAGGED = CloudProfile(
    name="aws-no-tagging",
    title="Amazon S3, without the rights to tags",
    provider="aws",
    keeps_tags=False,
    shows_tags=False,
    differences=(
        Difference(
            what="no x-amz-tagging-count to who lacks s3:GetObjectTagging",
            source="https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html",
            noria="asks for the tags",
            rule=AnswersWith(
                operations=READS, headers={"x-amz-tagging-count": None, "server": "AmazonS3"}
            ),
        ),
        Difference(
            what="403 AccessDenied to who asks for tags without the right",
            source="https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html",
            noria="moves the objects without, and counts them as `tags_unreadable`",
            rule=Refuses(operations=(Operation.TAGS,), status=403, code="AccessDenied"),
        ),
        Difference(
            what="403 AccessDenied to a write with tags without s3:PutObjectTagging",
            source="https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html",
            noria=_TAGS_LEFT,
            rule=Refuses(
                operations=WRITES, status=403, code="AccessDenied", header="x-amz-tagging"
            ),
        ),
    ),
)

_AZURE = CloudProfile(
    name="azure",
    title="Azure Blob Storage",
    azure=True,
    host="https://account.blob.core.windows.net",
    provider="azure",
    facts={"checksum": "crc64nvme", "if_absent": True, "provider": "azure"},
    differences=(
        Difference(
            what="412 ConditionNotMet or 409 BlobAlreadyExists if a blob is there; Azurite: 409",
            source="https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations",
            noria="takes either for a blob that is there",
            rule=AnswersWith(
                operations=(Operation.PUT, Operation.COMPLETE),
                status=(409, 412),
                code="ConditionNotMet",
            ),
        ),
        Difference(
            what="404 BlobNotFound to a read with If-Match of a blob that is gone; Azurite: 412",
            source="https://github.com/Azure/Azurite/issues/2751",
            noria="takes either for final, as `source_missing` or `source_changed`",
        ),
        Difference(
            what="503 ServerBusy, with Retry-After",
            source="https://learn.microsoft.com/azure/storage/blobs/storage-performance-checklist",
            noria="waits as long as it is told, and slows down",
            rule=Refuses(
                operations=(Operation.PUT, Operation.PART),
                status=503,
                code="ServerBusy",
                message="Operations per second is over the account limit.",
                first=1,
                one_name_in=9,
                retry_after_seconds=1,
            ),
        ),
        Difference(
            what="503 ServerBusy to reads: egress is over the account limit",
            source="https://github.com/Azure/azure-sdk-for-go/issues/22139",
            noria="slows down",
            rule=Throttles(
                operations=(Operation.READ,), per_second=20, status=503, code="ServerBusy"
            ),
        ),
        Difference(
            what="500 OperationTimedOut",
            source="https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes",
            noria="tries again; after a write, looks at the target first",
            rule=Refuses(
                operations=(Operation.PART, Operation.COMPLETE),
                status=500,
                code="OperationTimedOut",
                first=1,
            ),
        ),
        Difference(
            what="structured messages: a CRC64 of every 4 MiB that is read",
            source="https://learn.microsoft.com/rest/api/storageservices/get-blob",
            noria="asks for them, and checks every byte against them",
            rule=StatesChecksums(),
        ),
        Difference(
            what="a byte order mark before XML",
            source="https://github.com/Azure/azure-sdk-for-go/issues/22139",
            noria="passes over it",
            rule=AnswersWith(before_xml=b"\xef\xbb\xbf"),
        ),
        Difference(
            what="409 BlobArchived to reads of the archive tier",
            source="https://learn.microsoft.com/azure/storage/blobs/archive-rehydrate-overview",
            noria="leaves such blobs out when the job is planned, and counts them as `archived`",
        ),
    ),
)

_AZURE_FOLDERS = CloudProfile(
    name="azure-folders",
    title="Azure with a hierarchical namespace",
    azure=True,
    provider="azure",
    keeps_tags=False,
    shows_tags=False,
    differences=(
        Difference(
            what="400 to a listing with tags",
            source="https://learn.microsoft.com/azure/storage/blobs/storage-feature-support-in-storage-accounts",
            noria="lists without",
            rule=Refuses(
                operations=(Operation.LIST,),
                status=400,
                code="InvalidQueryParameterValue",
                query="tags",
            ),
        ),
        Difference(
            what="400 to who asks for tags",
            source="https://github.com/Azure/azure-sdk-for-net/issues/39388",
            noria="moves the blobs without: they have none",
            rule=Refuses(
                operations=(Operation.TAGS,),
                status=400,
                code="InvalidQueryParameterValue",
                message="Value for one of the query parameters specified in the request URI is "
                "invalid.",
            ),
        ),
        Difference(
            what="no x-ms-tag-count",
            source="https://learn.microsoft.com/rest/api/storageservices/get-blob-properties",
            noria="asks for no tags",
            rule=AnswersWith(headers={"x-ms-tag-count": None}),
        ),
        Difference(
            what="a write with tags is refused as not supported with this kind of account",
            source="https://learn.microsoft.com/azure/storage/blobs/storage-feature-support-in-storage-accounts",
            noria=_TAGS_LEFT,
            rule=Refuses(
                operations=ATTRIBUTED,
                status=409,
                code="FeatureNotYetSupportedForHierarchicalNamespaceAccounts",
                message="Blob tags are not yet supported for hierarchical namespace accounts.",
                header="x-ms-tags",
            ),
        ),
    ),
)

_SCALEWAY = CloudProfile(
    name="scaleway",
    title="Scaleway",
    host="https://s3.fr-par.scw.cloud",
    provider="scaleway",
    facts={"checksum": "crc64nvme", "if_absent": True, "trailers": False},
    differences=(
        Difference(
            what="1,000 parts at most, 5 TB an object, parts up to 5 GB",
            source="https://www.scaleway.com/en/docs/object-storage/api-cli/multipart-uploads/",
            noria="plans larger parts, by the host's name; refuses larger objects in the plan",
            rule=HoldsParts(parts=1000),
        ),
        Difference(
            what="429 TooManyRequests on PUT, at a rate that is not published",
            source="https://www.scaleway.com/en/docs/object-storage/troubleshooting/request-rate-error/",
            noria="slows down, and tries again",
            rule=Throttles(
                operations=(Operation.PUT,), per_second=30, status=429, code="TooManyRequests"
            ),
        ),
        Difference(
            what="x-amz-trailer refused (until 2025)",
            source="https://github.com/scaleway/docs-content/issues/4633",
            noria="the probe finds it out; checksums then go before the bytes",
            rule=Refuses(
                operations=(Operation.PUT, Operation.PART),
                status=400,
                code="InvalidRequest",
                message="The value specified in the x-amz-trailer header is not supported",
                header="x-amz-trailer",
            ),
        ),
        Difference(
            what="x-amz-server-side-encryption: AES256 refused",
            source="https://www.scaleway.com/en/docs/object-storage/troubleshooting/400-error-aes256/",
            noria="sends the header only if `target.encryption` is set",
            rule=Refuses(
                operations=WRITES,
                status=400,
                code="InvalidArgument",
                header="x-amz-server-side-encryption",
                value="AES256",
            ),
        ),
        Difference(
            what="no GetObjectAttributes",
            source="https://www.scaleway.com/en/docs/object-storage/api-cli/using-api-call-list/",
            noria="does not use it",
        ),
        Difference(
            what="answers do not say which server this is",
            source="https://www.scaleway.com/en/docs/object-storage/",
            noria="takes the host's name for it",
            rule=AnswersWith(headers={"server": None}),
        ),
    ),
)

_OVH = CloudProfile(
    name="ovhcloud",
    title="OVHcloud",
    host="https://s3.gra.io.cloud.ovh.net",
    provider="ovhcloud",
    facts={"checksum": "crc64nvme", "if_absent": True, "trailers": False},
    differences=(
        Difference(
            what="300 PUT a second for each bucket, then 503 SlowDown",
            source="https://help.ovhcloud.com/csm/en-public-cloud-storage-s3-limitations",
            noria="slows down, and tries again",
            rule=Throttles(
                operations=(Operation.PUT, Operation.PART),
                per_second=30,
                status=503,
                code="SlowDown",
            ),
        ),
        Difference(
            what="501 NotImplemented to aws-chunked bodies (until 2022)",
            source="https://github.com/ovh/public-cloud-roadmap/issues/129",
            noria="the probe finds it out; checksums then go before the bytes",
            rule=Refuses(
                operations=(Operation.PUT, Operation.PART),
                status=501,
                code="NotImplemented",
                message="Transfering payloads in multiple chunks using aws-chunked is not "
                "supported.",
                header="content-encoding",
                value="aws-chunked",
            ),
        ),
        Difference(
            what="answers do not say which server this is",
            source="https://help.ovhcloud.com/csm/en-public-cloud-storage-s3-limitations",
            noria="takes the host's name for it",
            rule=AnswersWith(headers={"server": None}),
        ),
    ),
)

_OUTSCALE = CloudProfile(
    name="outscale",
    title="Outscale",
    host="https://oos.eu-west-2.outscale.com",
    provider="outscale",
    differences=(
        Difference(
            what="an upload that takes more than three minutes is gone: NoSuchUpload",
            source="https://docs.outscale.com/en/userguide/OOS-Recommendations-and-Limits.html",
            noria="starts another upload, three times, once it is sure that nothing landed",
            rule=ForgetsUploads(),
        ),
        Difference(
            what="all parts of one size but the last",
            source="https://docs.outscale.com/en/userguide/Uploading-a-Part.html",
            noria="cuts every object so",
            rule=WantsEqualParts(),
        ),
        Difference(
            what="answers do not say which server this is",
            source="https://docs.outscale.com/en/userguide/OOS-Recommendations-and-Limits.html",
            noria="takes the host's name for it",
            rule=AnswersWith(headers={"server": None}),
        ),
    ),
)

_CEPH = CloudProfile(
    name="ceph",
    title="Ceph RGW",
    facts={"checksum": "md5", "if_absent": False, "provider": "ceph"},
    differences=(
        Difference(
            what="CRC64NVME passed over by releases before it was added",
            source="https://github.com/ceph/ceph/pull/61878",
            noria="the probe finds it out, and sends Content-MD5",
            rule=PassesOver(operations=_EVERYTHING, headers=_CRC64NVME),
        ),
        Difference(
            what="If-None-Match passed over by CompleteMultipartUpload before 20.2.1",
            source="https://github.com/ceph/ceph/pull/64830",
            noria=_PROBED,
            rule=PassesOver(operations=(Operation.COMPLETE,), headers=("if-none-match",)),
        ),
        Difference(
            what="400 XAmzContentSHA256Mismatch to a trailer, by older releases",
            source="https://github.com/home-assistant/core/issues/144015",
            noria="the probe finds it out",
            rule=Refuses(
                operations=(Operation.PUT, Operation.PART),
                status=400,
                code="XAmzContentSHA256Mismatch",
                header="x-amz-trailer",
            ),
        ),
        Difference(
            what="names itself in Server",
            source="https://github.com/ceph/ceph/pull/50510",
            noria="takes its limits, and its word that objects have no tags",
            rule=AnswersWith(headers={"server": "Ceph Object Gateway (squid)"}),
        ),
    ),
)

_MINIO = CloudProfile(
    name="minio",
    title="MinIO",
    facts={"checksum": "crc64nvme", "if_absent": True, "provider": "minio"},
    differences=(
        Difference(
            what="names itself in Server",
            source="https://github.com/minio/minio/blob/master/cmd/api-headers.go",
            noria="takes its limits, and its word that objects have no tags",
            rule=AnswersWith(headers={"server": "MinIO"}),
        ),
        Difference(
            what="503 SlowDownWrite",
            source="https://github.com/minio/minio/blob/master/cmd/api-errors.go",
            noria="slows down, and tries again",
            rule=Refuses(
                operations=(Operation.PUT, Operation.PART),
                status=503,
                code="SlowDownWrite",
                first=1,
                one_name_in=5,
            ),
        ),
        Difference(
            what="503 XMinioServerNotInitialized while it starts",
            source="https://github.com/minio/minio/blob/master/cmd/api-errors.go",
            noria="tries again",
            rule=Refuses(
                operations=(Operation.HEAD, Operation.READ),
                status=503,
                code="XMinioServerNotInitialized",
                first=1,
                one_name_in=5,
            ),
        ),
        Difference(
            what="400 XMinioInvalidObjectName to names with an empty segment",
            source="https://docs.min.io/community/minio-object-store/operations/concepts/thresholds.html",
            noria="the probe finds it out, and the plan leaves such names out, with the reason",
            rule=Refuses(
                operations=(Operation.PUT, Operation.CREATE),
                status=400,
                code="XMinioInvalidObjectName",
                name="//",
            ),
        ),
    ),
)

_R2 = CloudProfile(
    name="r2",
    title="Cloudflare R2",
    facts={"checksum": "crc64nvme", "if_absent": True, "provider": "s3"},
    host="https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com",
    keeps_tags=False,
    shows_tags=False,
    differences=(
        Difference(
            what="all parts of one size but the last",
            source="https://developers.cloudflare.com/r2/objects/multipart-objects/",
            noria="cuts every object so",
            rule=WantsEqualParts(),
        ),
        Difference(
            what="429 to more than one write a second to one name",
            source="https://developers.cloudflare.com/r2/platform/limits/",
            noria=_ONE_A_SECOND,
            rule=Throttles(
                operations=(Operation.PUT, Operation.COMPLETE),
                per_second=1,
                status=429,
                code="TooManyRequests",
                each_name=True,
            ),
        ),
        Difference(
            what="501 NotImplemented to a write with tags",
            source="https://github.com/openreplay/openreplay/issues/2018",
            noria=_TAGS_LEFT,
            rule=Refuses(
                operations=WRITES,
                status=501,
                code="NotImplemented",
                message="Header 'x-amz-tagging' with value 'x' not implemented",
                header="x-amz-tagging",
            ),
        ),
        Difference(
            what="501 NotImplemented to who asks for tags",
            source="https://github.com/jhaals/yopass/issues/3657",
            noria="moves the objects without, and counts them as `tags_unreadable`",
            rule=Refuses(
                operations=(Operation.TAGS,),
                status=501,
                code="NotImplemented",
                message="GetObjectTagging not implemented",
            ),
        ),
        Difference(
            what="501 NotImplemented to access lists",
            source="https://developers.cloudflare.com/r2/api/s3/api/",
            noria="sends one only if `target.acl` is set",
            rule=Refuses(operations=WRITES, status=501, code="NotImplemented", header="x-amz-acl"),
        ),
        Difference(
            what="Server: cloudflare, and no count of tags",
            source="https://github.com/apache/opendal/issues/2904",
            noria="takes the narrowest limits of all S3",
            rule=AnswersWith(headers={"server": "cloudflare", "x-amz-tagging-count": None}),
        ),
    ),
)

_GARAGE = CloudProfile(
    name="garage",
    title="Garage",
    facts={"if_absent": False, "drops_tags": True, "provider": "s3"},
    tags_left_as="tags_left",
    keeps_tags=False,
    shows_tags=False,
    differences=(
        Difference(
            what="most x-amz- headers passed over, tags among them",
            source="https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility",
            noria="looks whether tags arrived; if not, as where they are refused",
            rule=PassesOver(operations=WRITES, headers=("x-amz-tagging",)),
        ),
        Difference(
            what="501 NotImplemented to who asks for tags",
            source="https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility",
            noria="moves the objects without, and counts them as `tags_unreadable`",
            rule=Refuses(operations=(Operation.TAGS,), status=501, code="NotImplemented"),
        ),
        Difference(
            what="conditions of writes passed over",
            source="https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility",
            noria=_PROBED,
            rule=PassesOver(
                operations=(Operation.PUT, Operation.COMPLETE), headers=("if-none-match",)
            ),
        ),
        Difference(
            what="answers do not say which server this is",
            source="https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility",
            noria="takes the narrowest limits of all S3",
            rule=AnswersWith(headers={"server": None, "x-amz-tagging-count": None}),
        ),
    ),
)

_GCS = CloudProfile(
    name="gcs",
    title="Google Cloud Storage, as S3",
    host="https://storage.googleapis.com",
    facts={"checksum": "md5", "trailers": False},
    differences=(
        Difference(
            what="403 SignatureDoesNotMatch to a part with a checksum of x-amz-checksum-",
            source="https://github.com/qdrant/qdrant/pull/9568",
            noria="the probe finds it out, and sends Content-MD5",
            rule=Refuses(
                operations=(Operation.PUT, Operation.PART),
                status=403,
                code="SignatureDoesNotMatch",
                message="Invalid argument.",
                header="x-amz-checksum-crc64nvme",
            ),
        ),
        Difference(
            what="429 to more than one write a second to one name",
            source="https://cloud.google.com/storage/quotas",
            noria=_ONE_A_SECOND,
            rule=Throttles(
                operations=(Operation.PUT, Operation.COMPLETE),
                per_second=1,
                status=429,
                code="SlowDown",
                each_name=True,
            ),
        ),
        Difference(
            what="If-None-Match passed over: Google has x-goog-if-generation-match",
            source="https://cloud.google.com/storage/docs/xml-api/reference-headers",
            noria=_PROBED,
            rule=PassesOver(
                operations=(Operation.PUT, Operation.COMPLETE), headers=("if-none-match",)
            ),
        ),
        Difference(
            what="Server: UploadServer",
            source="https://cloud.google.com/storage/docs/xml-api/reference-headers",
            noria="takes the narrowest limits of all S3",
            rule=AnswersWith(headers={"server": "UploadServer"}),
        ),
    ),
)

_SCALITY = CloudProfile(
    name="scality",
    title="Scality",
    facts={"checksum": "crc64nvme", "if_absent": True, "trailers": False},
    differences=(
        Difference(
            what="400 BadRequest to x-amz-trailer",
            source="https://github.com/scality/cloudserver/issues/5553",
            noria="the probe finds it out; checksums then go before the bytes",
            rule=Refuses(
                operations=(Operation.PUT, Operation.PART),
                status=400,
                code="BadRequest",
                message="trailing checksum is not supported",
                header="x-amz-trailer",
            ),
        ),
        Difference(
            what="Server: S3 Server",
            source="https://github.com/scality/cloudserver",
            noria="takes the narrowest limits of all S3",
            rule=AnswersWith(headers={"server": "S3 Server"}),
        ),
    ),
)

_B2_REFUSES = "https://www.backblaze.com/docs/cloud-storage-s3-compatible-api"


def _unsupported(header: str, *operations: Operation) -> Refuses:
    return Refuses(
        operations=operations or _EVERYTHING,
        status=400,
        code="InvalidArgument",
        message=f"Unsupported header '{header}' received for this API call.",
        header=header,
    )


_B2 = CloudProfile(
    name="b2",
    title="Backblaze B2",
    facts={"checksum": "md5", "if_absent": True},
    host="https://s3.eu-central-003.backblazeb2.com",
    keeps_tags=False,
    shows_tags=False,
    differences=(
        Difference(
            what="400 InvalidArgument to a write with tags",
            source="https://github.com/Intrinsec/s3proxy/issues/34",
            noria=_TAGS_LEFT,
            rule=_unsupported("x-amz-tagging", *WRITES),
        ),
        Difference(
            what="400 InvalidArgument to x-amz-checksum-mode (until 2025)",
            source="https://github.com/vatesfr/xen-orchestra/issues/8358",
            noria="asks for no checksum any more",
            rule=_unsupported("x-amz-checksum-mode"),
        ),
        Difference(
            what="400 InvalidArgument to checksums of x-amz-checksum- (until 2025)",
            source="https://github.com/stonith404/pingvin-share/issues/798",
            noria="the probe finds it out, and sends Content-MD5",
            rule=_unsupported("x-amz-checksum-crc64nvme"),
        ),
        Difference(
            what="400 InvalidArgument to x-amz-checksum-algorithm (until 2025)",
            source="https://github.com/root-gg/plik/issues/508",
            noria="the probe finds it out, and sends Content-MD5",
            rule=_unsupported("x-amz-checksum-algorithm"),
        ),
        Difference(
            what="no tags to be asked for",
            source=_B2_REFUSES,
            noria="moves the objects without, and counts them as `tags_unreadable`",
            rule=Refuses(operations=(Operation.TAGS,), status=501, code="NotImplemented"),
        ),
        Difference(
            what="Server: nginx, and no count of tags",
            source="https://github.com/iterate-ch/cyberduck/issues/16107",
            noria="takes the narrowest limits of all S3",
            rule=AnswersWith(headers={"server": "nginx", "x-amz-tagging-count": None}),
        ),
    ),
)

PROFILES = (
    _AZURE,
    _AZURE_FOLDERS,
    _AWS,
    _AWS_UNTAGGED,
    _SCALEWAY,
    _OVH,
    _OUTSCALE,
    _CEPH,
    _MINIO,
    _R2,
    _GCS,
    _GARAGE,
    _SCALITY,
    _B2,
)
