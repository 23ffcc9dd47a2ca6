SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE TYPE public.link_precedence AS ENUM (
    'primary',
    'secondary'
);
CREATE TYPE public.reconciliation AS (
	outcome text,
	primary_id bigint,
	contact_id bigint
);
CREATE FUNCTION public.guard_identifiers_deleted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM refuse_two_identities()
    FROM (SELECT DISTINCT coalesce(linked_id, id) AS root FROM old_rows) AS old_identity
    JOIN contact c ON c.linked_id = old_identity.root OR c.id = old_identity.root
    WHERE (email IS NOT NULL AND NOT anchors_email AND NOT EXISTS (
               SELECT FROM contact a WHERE a.email = c.email AND a.anchors_email))
       OR (phone_number IS NOT NULL AND NOT anchors_phone AND NOT EXISTS (
               SELECT FROM contact a WHERE a.phone_number = c.phone_number AND a.anchors_phone));
    RETURN NULL;
END $$;
CREATE FUNCTION public.guard_identifiers_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.email IS NOT NULL AND NOT NEW.anchors_email THEN
        PERFORM FROM contact WHERE email = NEW.email AND anchors_email
            AND coalesce(linked_id, id) = coalesce(NEW.linked_id, NEW.id);
        IF NOT FOUND THEN
            PERFORM refuse_two_identities();
        END IF;
    END IF;
    IF NEW.phone_number IS NOT NULL AND NOT NEW.anchors_phone THEN
        PERFORM FROM contact WHERE phone_number = NEW.phone_number AND anchors_phone
            AND coalesce(linked_id, id) = coalesce(NEW.linked_id, NEW.id);
        IF NOT FOUND THEN
            PERFORM refuse_two_identities();
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION public.guard_identifiers_updated() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM refuse_two_identities()
    FROM (
        SELECT id, linked_id, email, phone_number, anchors_email, anchors_phone FROM new_rows
        UNION ALL
        SELECT c.id, c.linked_id, c.email, c.phone_number, c.anchors_email, c.anchors_phone
        FROM (SELECT DISTINCT coalesce(linked_id, id) AS root FROM old_rows) AS old_identity
        JOIN contact c ON c.linked_id = old_identity.root OR c.id = old_identity.root
    ) AS touched
    WHERE (email IS NOT NULL AND NOT anchors_email AND NOT EXISTS (
               SELECT FROM contact a WHERE a.email = touched.email AND a.anchors_email
                   AND coalesce(a.linked_id, a.id) = coalesce(touched.linked_id, touched.id)))
       OR (phone_number IS NOT NULL AND NOT anchors_phone AND NOT EXISTS (
               SELECT FROM contact a WHERE a.phone_number = touched.phone_number AND a.anchors_phone
                   AND coalesce(a.linked_id, a.id) = coalesce(touched.linked_id, touched.id)));
    RETURN NULL;
END $$;
CREATE FUNCTION public.identify(request_email text, request_phone text) RETURNS TABLE(id bigint, email text, phone_number text, linked_id bigint, outcome text, primary_id bigint, contact_id bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    result reconciliation := reconcile(request_email, request_phone);
BEGIN
    RETURN QUERY SELECT member.*, result.* FROM members(result.primary_id) AS member;
END $$;
CREATE FUNCTION public.members(of_primary bigint) RETURNS TABLE(id bigint, email text, phone_number text, linked_id bigint)
    LANGUAGE sql STABLE
    AS $$
    SELECT c.id, c.email, c.phone_number, c.linked_id FROM contact c
    WHERE c.id = of_primary OR c.linked_id = of_primary
    ORDER BY c.linked_id IS NOT NULL, c.created_at, c.id
$$;
CREATE FUNCTION public.primary_at(of_contact bigint, at_run bigint, at_line bigint) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    WITH RECURSIVE chain (depth, id) AS (
        SELECT 0, coalesce(initial_linked_id, contact.id) FROM contact WHERE contact.id = of_contact
        UNION ALL
        SELECT depth + 1, primary_id FROM chain JOIN link_evidence ON merged_id = chain.id
        WHERE (run_id = at_run AND line > at_line) IS NOT TRUE
    )
    SELECT id FROM chain ORDER BY depth DESC LIMIT 1
$$;
CREATE FUNCTION public.reconcile(request_email text, request_phone text, request_at timestamp with time zone DEFAULT clock_timestamp(), request_run bigint DEFAULT NULL::bigint, request_line bigint DEFAULT NULL::bigint) RETURNS public.reconciliation
    LANGUAGE plpgsql
    AS $$
DECLARE
    result reconciliation;
    email_id bigint;    -- the contact that anchors the email, its primary, its phone number
    email_root bigint;
    email_phone text;
    phone_id bigint;    -- the contact that anchors the phone number, its primary, its email
    phone_root bigint;
    phone_email text;
    email_at timestamptz;
    phone_at timestamptz;
    merged bigint;
    found_primaries bigint[];
BEGIN
    IF request_email IS NULL AND request_phone IS NULL THEN
        RAISE EXCEPTION 'a contact request needs an email or a phone number' USING ERRCODE = 'check_violation';
    END IF;
    FOR attempt IN 1 .. 100 LOOP
        IF request_email IS NOT NULL THEN
            SELECT id, coalesce(linked_id, id), phone_number, created_at
            INTO email_id, email_root, email_phone, email_at
            FROM contact WHERE email = request_email AND anchors_email;
        END IF;
        IF request_phone IS NOT NULL THEN
            SELECT id, coalesce(linked_id, id), email, created_at
            INTO phone_id, phone_root, phone_email, phone_at
            FROM contact WHERE phone_number = request_phone AND anchors_phone;
        END IF;
        IF email_id IS NULL AND phone_id IS NULL THEN
            INSERT INTO contact (email, phone_number, link_precedence, anchors_email, anchors_phone,
                                 run_id, line, created_at, updated_at)
            VALUES (request_email, request_phone, 'primary', request_email IS NOT NULL, request_phone IS NOT NULL,
                    request_run, request_line, request_at, request_at)
            ON CONFLICT DO NOTHING
            RETURNING 'created', id, id INTO result;
            -- No row: another request has brought the value in at this moment. Look again.
            CONTINUE WHEN result.contact_id IS NULL;
            RETURN result;
        END IF;
        IF (email_id IS NULL AND request_email IS NOT NULL) OR (phone_id IS NULL AND request_phone IS NOT NULL) THEN
            -- A clock of another machine must not make the newcomer older than its primary; the contact that
            -- anchors the known value is not. Where a merge came between, the foreign key says so: 23503.
            INSERT INTO contact (email, phone_number, linked_id, initial_linked_id, link_precedence,
                                 anchors_email, anchors_phone, run_id, line, created_at, updated_at)
            VALUES (request_email, request_phone, coalesce(email_root, phone_root), coalesce(email_root, phone_root),
                    'secondary', email_id IS NULL, phone_id IS NULL, request_run, request_line,
                    greatest(request_at, email_at, phone_at), request_at)
            ON CONFLICT DO NOTHING
            RETURNING 'linked', linked_id, id INTO result;
            CONTINUE WHEN result.contact_id IS NULL;
            RETURN result;
        END IF;
        IF email_root = phone_root AND NOT (email_phone = request_phone OR phone_email = request_email) IS TRUE THEN
            -- Both values are known, their combination may be new: evidence, but no contact.
            PERFORM FROM link_evidence WHERE email = request_email AND phone_number = request_phone;
            IF NOT FOUND THEN
                INSERT INTO link_evidence (email, phone_number, primary_id, run_id, line, created_at)
                VALUES (request_email, request_phone, email_root, request_run, request_line, request_at)
                ON CONFLICT DO NOTHING;
            END IF;
        END IF;
        IF email_root = phone_root OR email_root IS NULL OR phone_root IS NULL THEN
            result := ('unchanged', coalesce(email_root, phone_root), NULL);
            RETURN result;
        END IF;
        -- Locked in the order of their ids, so that two merges cannot wait for each other.
        SELECT array_agg(id ORDER BY created_at, id) INTO found_primaries
        FROM (SELECT id, created_at FROM contact
              WHERE id IN (email_root, phone_root) AND linked_id IS NULL
              ORDER BY id FOR UPDATE) AS locked;
        -- One of them is no longer primary: another merge came first. Look again.
        CONTINUE WHEN cardinality(found_primaries) IS DISTINCT FROM 2;
        merged := found_primaries[2];
        UPDATE contact SET linked_id = found_primaries[1], link_precedence = 'secondary', updated_at = request_at
        WHERE id = merged OR linked_id = merged;
        INSERT INTO link_evidence (email, phone_number, primary_id, merged_id, run_id, line, created_at)
        VALUES (request_email, request_phone, found_primaries[1], merged, request_run, request_line, request_at);
        result := ('merged', found_primaries[1], NULL);
        RETURN result;
    END LOOP;
    RAISE EXCEPTION 'the contacts of this request keep changing' USING ERRCODE = 'serialization_failure';
END $$;
CREATE PROCEDURE public.reconcile_batch(IN emails text[], IN phones text[], IN clocks bigint[], IN run bigint, IN lines bigint[], IN commit_each boolean, INOUT outcomes text[] DEFAULT '{}'::text[], INOUT primary_ids bigint[] DEFAULT '{}'::bigint[], INOUT contact_ids bigint[] DEFAULT '{}'::bigint[], INOUT retries bigint DEFAULT 0)
    LANGUAGE plpgsql
    AS $$
DECLARE
    result reconciliation;
BEGIN
    FOR i IN 1 .. cardinality(clocks) LOOP
        FOR attempt IN 1 .. 50 LOOP
            BEGIN
                result := reconcile(emails[i], phones[i],
                                    'epoch'::timestamptz + clocks[i] * '1 microsecond'::interval, run, lines[i]);
                EXIT;
            EXCEPTION
                WHEN deadlock_detected OR serialization_failure OR foreign_key_violation OR unique_violation
                    OR lock_not_available THEN
                    result := ('refused ' || SQLSTATE, NULL, NULL);
                    retries := retries + 1;
                    PERFORM pg_sleep(random() * attempt / 1000);
                WHEN integrity_constraint_violation OR data_exception OR raise_exception THEN
                    result := ('refused ' || SQLSTATE, NULL, NULL);
                    EXIT;
            END;
        END LOOP;
        -- Outside of the block: a transaction cannot end inside one that catches errors.
        IF commit_each THEN
            COMMIT;
        END IF;
        outcomes[i] := result.outcome;
        primary_ids[i] := result.primary_id;
        contact_ids[i] := result.contact_id;
    END LOOP;
END $$;
CREATE FUNCTION public.refuse_two_identities() RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'an identifier would lead to two identities'
        USING ERRCODE = 'integrity_constraint_violation',
              HINT = 'a known value stays in its identity; reconcile() links and merges';
END $$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.contact (
    id bigint NOT NULL,
    linked_id bigint,
    initial_linked_id bigint,
    run_id bigint,
    line bigint,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    deleted_at timestamp with time zone,
    link_precedence public.link_precedence NOT NULL,
    linked_precedence public.link_precedence GENERATED ALWAYS AS (
CASE
    WHEN (linked_id IS NOT NULL) THEN 'primary'::public.link_precedence
    ELSE NULL::public.link_precedence
END) STORED,
    anchors_email boolean DEFAULT true NOT NULL,
    anchors_phone boolean DEFAULT true NOT NULL,
    email text COLLATE pg_catalog."C",
    phone_number text COLLATE pg_catalog."C",
    CONSTRAINT contact_has_an_identifier CHECK ((COALESCE(LEAST(email, phone_number), ''::text) <> ''::text)),
    CONSTRAINT contact_primary_has_no_link CHECK (((link_precedence = 'primary'::public.link_precedence) = (linked_id IS NULL)))
);
ALTER TABLE public.contact ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.contact_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.import_run (
    id bigint NOT NULL,
    status text NOT NULL,
    inputs jsonb NOT NULL,
    fingerprint text NOT NULL,
    lock_key bigint NOT NULL,
    checkpoint jsonb,
    rows jsonb NOT NULL,
    seconds double precision DEFAULT 0 NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT import_run_status CHECK ((status = ANY (ARRAY['running'::text, 'finished'::text, 'stopped'::text, 'failed'::text])))
);
ALTER TABLE public.import_run ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.import_run_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.link_evidence (
    id bigint NOT NULL,
    primary_id bigint NOT NULL,
    merged_id bigint,
    run_id bigint,
    line bigint,
    created_at timestamp with time zone NOT NULL,
    email text NOT NULL COLLATE pg_catalog."C",
    phone_number text NOT NULL COLLATE pg_catalog."C"
);
ALTER TABLE public.link_evidence ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.link_evidence_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.normalization_profile (
    only_row boolean DEFAULT true NOT NULL,
    version integer NOT NULL,
    region text,
    CONSTRAINT normalization_profile_one_row CHECK (only_row)
);
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.contact VALUES (1, NULL, NULL, 1, 2, '2026-11-24 05:40:53.284565+00', '2026-11-24 05:40:53.284565+00', NULL, 'primary', DEFAULT, true, true, 'lorraine@hillvalley.edu', '123456');
INSERT INTO public.contact VALUES (2, 1, 1, 1, 3, '2026-11-24 05:40:53.284566+00', '2026-11-24 05:40:53.284566+00', NULL, 'secondary', DEFAULT, true, false, 'mcfly@hillvalley.edu', '123456');
INSERT INTO public.contact VALUES (3, NULL, NULL, 1, 4, '2026-11-24 05:40:53.284567+00', '2026-11-24 05:40:53.284567+00', NULL, 'primary', DEFAULT, true, true, 'george@hillvalley.edu', '919191');
INSERT INTO public.contact VALUES (4, 3, NULL, 1, 5, '2026-11-24 05:40:53.284568+00', '2026-11-24 05:40:53.284569+00', NULL, 'secondary', DEFAULT, true, true, 'biffsucks@hillvalley.edu', '717171');
INSERT INTO public.contact VALUES (5, NULL, NULL, 1, 7, '2026-11-24 05:40:53.28457+00', '2026-11-24 05:40:53.28457+00', NULL, 'primary', DEFAULT, true, true, 'wilbur.wilson@enchantment.example', '5305550188');
INSERT INTO public.contact VALUES (6, NULL, NULL, 1, 8, '2026-11-24 05:40:53.284571+00', '2026-11-24 05:40:53.284571+00', NULL, 'primary', DEFAULT, true, true, 'jennifer.brown@twinpines.example', '2095550141');
INSERT INTO public.contact VALUES (7, NULL, NULL, 1, 9, '2026-11-24 05:40:53.284572+00', '2026-11-24 05:40:53.284572+00', NULL, 'primary', DEFAULT, true, true, 'seamus.clayton@twinpines.example', '2095550137');
INSERT INTO public.contact VALUES (8, NULL, NULL, 1, 10, '2026-11-24 05:40:53.284573+00', '2026-11-24 05:40:53.284573+00', NULL, 'primary', DEFAULT, true, true, 'sally.wilson@twinpines.example', '5305550159');
INSERT INTO public.contact VALUES (9, NULL, NULL, 1, 11, '2026-11-24 05:40:53.284574+00', '2026-11-24 05:40:53.284574+00', NULL, 'primary', DEFAULT, true, true, 'marty.mcfly@enchantment.example', '5305550158');
INSERT INTO public.contact VALUES (10, NULL, NULL, 1, 13, '2026-11-24 05:40:53.284576+00', '2026-11-24 05:40:53.284576+00', NULL, 'primary', DEFAULT, true, true, 'clara.wilson@enchantment.example', '5305550100');
INSERT INTO public.contact VALUES (11, NULL, NULL, 1, 15, '2026-11-24 05:40:53.284578+00', '2026-11-24 05:40:53.284578+00', NULL, 'primary', DEFAULT, true, true, 'otis.peabody@twinpines.example', '2095550183');
INSERT INTO public.contact VALUES (12, NULL, NULL, 1, 16, '2026-11-24 05:40:53.284579+00', '2026-11-24 05:40:53.284579+00', NULL, 'primary', DEFAULT, true, true, 'marty.tannen@hillvalley.edu', '2095550116');
INSERT INTO public.contact VALUES (17, NULL, NULL, 1, 21, '2026-11-24 05:40:53.284584+00', '2026-11-24 05:40:53.284584+00', NULL, 'primary', DEFAULT, true, true, 'lou.parker@hillvalley.edu', '2095550185');
INSERT INTO public.contact VALUES (18, 7, 7, 1, 22, '2026-11-24 05:40:53.284585+00', '2026-11-24 05:40:53.284585+00', NULL, 'secondary', DEFAULT, true, false, 'copernicus.parker@twinpines.example', '2095550137');
INSERT INTO public.contact VALUES (19, 7, 7, 1, 23, '2026-11-24 05:40:53.284586+00', '2026-11-24 05:40:53.284586+00', NULL, 'secondary', DEFAULT, false, true, 'copernicus.parker@twinpines.example', '2095550194');
INSERT INTO public.contact VALUES (20, 7, 7, 1, 24, '2026-11-24 05:40:53.284587+00', '2026-11-24 05:40:53.284587+00', NULL, 'secondary', DEFAULT, true, false, 'marvin.peabody@twinpines.example', '2095550137');
INSERT INTO public.contact VALUES (21, NULL, NULL, 1, 25, '2026-11-24 05:40:53.284588+00', '2026-11-24 05:40:53.284588+00', NULL, 'primary', DEFAULT, true, true, 'griff.brown@enchantment.example', '2095550138');
INSERT INTO public.contact VALUES (22, NULL, NULL, 1, 26, '2026-11-24 05:40:53.284589+00', '2026-11-24 05:40:53.284589+00', NULL, 'primary', DEFAULT, true, true, 'needles.tannen@lyon-estates.example', '2095550142');
INSERT INTO public.contact VALUES (23, NULL, NULL, 1, 27, '2026-11-24 05:40:53.28459+00', '2026-11-24 05:40:53.28459+00', NULL, 'primary', DEFAULT, true, true, 'clara.strickland@lyon-estates.example', '5305550103');
INSERT INTO public.contact VALUES (24, NULL, NULL, 1, 28, '2026-11-24 05:40:53.284591+00', '2026-11-24 05:40:53.284591+00', NULL, 'primary', DEFAULT, true, true, 'otis.baines@hillvalley.edu', '5305550199');
INSERT INTO public.contact VALUES (25, 21, 21, 1, 29, '2026-11-24 05:40:53.284592+00', '2026-11-24 05:40:53.284592+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550109');
INSERT INTO public.contact VALUES (27, NULL, NULL, 1, 31, '2026-11-24 05:40:53.284594+00', '2026-11-24 05:40:53.284594+00', NULL, 'primary', DEFAULT, true, false, 'griff.baines@hillvalley.example', NULL);
INSERT INTO public.contact VALUES (29, NULL, NULL, 1, 33, '2026-11-24 05:40:53.284596+00', '2026-11-24 05:40:53.284596+00', NULL, 'primary', DEFAULT, true, true, 'copernicus.clayton@enchantment.example', '2095550168');
INSERT INTO public.contact VALUES (30, 17, 17, 1, 34, '2026-11-24 05:40:53.284597+00', '2026-11-24 05:40:53.284597+00', NULL, 'secondary', DEFAULT, false, true, 'lou.parker@hillvalley.edu', '2095550175');
INSERT INTO public.contact VALUES (31, NULL, NULL, 1, 35, '2026-11-24 05:40:53.284598+00', '2026-11-24 05:40:53.284598+00', NULL, 'primary', DEFAULT, true, true, 'threedee.baines@hillvalley.example', '5305550123');
INSERT INTO public.contact VALUES (14, 10, NULL, 1, 18, '2026-11-24 05:40:53.284581+00', '2026-11-24 05:40:53.284599+00', NULL, 'secondary', DEFAULT, true, true, 'copernicus.strickland@hillvalley.example', '2095550186');
INSERT INTO public.contact VALUES (15, 10, 14, 1, 19, '2026-11-24 05:40:53.284582+00', '2026-11-24 05:40:53.284599+00', NULL, 'secondary', DEFAULT, true, false, 'stella.strickland@hillvalley.edu', '2095550186');
INSERT INTO public.contact VALUES (16, 10, 14, 1, 20, '2026-11-24 05:40:53.284583+00', '2026-11-24 05:40:53.284599+00', NULL, 'secondary', DEFAULT, true, false, 'doc.baines@hillvalley.edu', '2095550186');
INSERT INTO public.contact VALUES (28, 10, 14, 1, 32, '2026-11-24 05:40:53.284595+00', '2026-11-24 05:40:53.284599+00', NULL, 'secondary', DEFAULT, true, false, 'linda.strickland@twinpines.example', '2095550186');
INSERT INTO public.contact VALUES (32, 7, 7, 1, 37, '2026-11-24 05:40:53.2846+00', '2026-11-24 05:40:53.2846+00', NULL, 'secondary', DEFAULT, true, false, 'gale.tannen@hillvalley.edu', '2095550137');
INSERT INTO public.contact VALUES (33, NULL, NULL, 1, 38, '2026-11-24 05:40:53.284601+00', '2026-11-24 05:40:53.284601+00', NULL, 'primary', DEFAULT, true, true, 'lester.parker@hillvalley.edu', '2095550167');
INSERT INTO public.contact VALUES (34, NULL, NULL, 1, 39, '2026-11-24 05:40:53.284602+00', '2026-11-24 05:40:53.284602+00', NULL, 'primary', DEFAULT, true, true, 'milton.parker@hillvalley.example', '5305550141');
INSERT INTO public.contact VALUES (35, NULL, NULL, 1, 40, '2026-11-24 05:40:53.284603+00', '2026-11-24 05:40:53.284603+00', NULL, 'primary', DEFAULT, true, true, 'lou.mcfly@twinpines.example', '5305550114');
INSERT INTO public.contact VALUES (36, NULL, NULL, 1, 41, '2026-11-24 05:40:53.284604+00', '2026-11-24 05:40:53.284604+00', NULL, 'primary', DEFAULT, true, true, 'einstein.mcfly@hillvalley.example', '2095550135');
INSERT INTO public.contact VALUES (37, NULL, NULL, 1, 42, '2026-11-24 05:40:53.284605+00', '2026-11-24 05:40:53.284605+00', NULL, 'primary', DEFAULT, true, true, 'marty.clayton@twinpines.example', '5305550185');
INSERT INTO public.contact VALUES (38, 10, 10, 1, 43, '2026-11-24 05:40:53.284606+00', '2026-11-24 05:40:53.284606+00', NULL, 'secondary', DEFAULT, false, true, 'clara.wilson@enchantment.example', '5305550121');
INSERT INTO public.contact VALUES (39, NULL, NULL, 1, 44, '2026-11-24 05:40:53.284607+00', '2026-11-24 05:40:53.284607+00', NULL, 'primary', DEFAULT, true, true, 'lester.carruthers@lyon-estates.example', '2095550189');
INSERT INTO public.contact VALUES (40, NULL, NULL, 1, 45, '2026-11-24 05:40:53.284608+00', '2026-11-24 05:40:53.284608+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550154');
INSERT INTO public.contact VALUES (41, NULL, NULL, 1, 46, '2026-11-24 05:40:53.284609+00', '2026-11-24 05:40:53.284609+00', NULL, 'primary', DEFAULT, true, true, 'emmett.carruthers@hillvalley.example', '5305550109');
INSERT INTO public.contact VALUES (26, 22, NULL, 1, 30, '2026-11-24 05:40:53.284593+00', '2026-11-24 05:40:53.28461+00', NULL, 'secondary', DEFAULT, true, true, 'copernicus.tannen@enchantment.example', '5305550137');
INSERT INTO public.contact VALUES (42, NULL, NULL, 1, 48, '2026-11-24 05:40:53.284611+00', '2026-11-24 05:40:53.284611+00', NULL, 'primary', DEFAULT, true, true, 'doc.clayton@hillvalley.edu', '2095550107');
INSERT INTO public.contact VALUES (43, 33, 33, 1, 49, '2026-11-24 05:40:53.284612+00', '2026-11-24 05:40:53.284612+00', NULL, 'secondary', DEFAULT, true, false, 'dave.parker@hillvalley.edu', '2095550167');
INSERT INTO public.contact VALUES (44, 21, 21, 1, 50, '2026-11-24 05:40:53.284613+00', '2026-11-24 05:40:53.284613+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '5305550171');
INSERT INTO public.contact VALUES (45, 39, 39, 1, 51, '2026-11-24 05:40:53.284614+00', '2026-11-24 05:40:53.284614+00', NULL, 'secondary', DEFAULT, false, true, 'lester.carruthers@lyon-estates.example', '5305550130');
INSERT INTO public.contact VALUES (46, NULL, NULL, 1, 52, '2026-11-24 05:40:53.284615+00', '2026-11-24 05:40:53.284615+00', NULL, 'primary', DEFAULT, true, true, 'biff.clayton@twinpines.example', '2095550178');
INSERT INTO public.contact VALUES (13, 11, NULL, 1, 17, '2026-11-24 05:40:53.28458+00', '2026-11-24 05:40:53.284616+00', NULL, 'secondary', DEFAULT, true, true, 'jennifer.clayton@enchantment.example', '2095550136');
INSERT INTO public.contact VALUES (49, NULL, NULL, 1, 57, '2026-11-24 05:40:53.28462+00', '2026-11-24 05:40:53.28462+00', NULL, 'primary', DEFAULT, true, true, 'sally.wilson@hillvalley.edu', '5305550178');
INSERT INTO public.contact VALUES (50, 7, 7, 1, 58, '2026-11-24 05:40:53.284621+00', '2026-11-24 05:40:53.284621+00', NULL, 'secondary', DEFAULT, false, true, 'copernicus.parker@twinpines.example', '5305550151');
INSERT INTO public.contact VALUES (52, NULL, NULL, 1, 60, '2026-11-24 05:40:53.284623+00', '2026-11-24 05:40:53.284623+00', NULL, 'primary', DEFAULT, false, true, NULL, '5305550106');
INSERT INTO public.contact VALUES (54, 42, 42, 1, 62, '2026-11-24 05:40:53.284625+00', '2026-11-24 05:40:53.284625+00', NULL, 'secondary', DEFAULT, true, false, 'gale.baines@twinpines.example', '2095550107');
INSERT INTO public.contact VALUES (55, 49, 49, 1, 63, '2026-11-24 05:40:53.284626+00', '2026-11-24 05:40:53.284626+00', NULL, 'secondary', DEFAULT, false, true, 'sally.wilson@hillvalley.edu', '5305550134');
INSERT INTO public.contact VALUES (56, NULL, NULL, 1, 65, '2026-11-24 05:40:53.284628+00', '2026-11-24 05:40:53.284628+00', NULL, 'primary', DEFAULT, true, false, 'threedee.carruthers@lyon-estates.example', NULL);
INSERT INTO public.contact VALUES (57, 11, 11, 1, 66, '2026-11-24 05:40:53.284629+00', '2026-11-24 05:40:53.284629+00', NULL, 'secondary', DEFAULT, true, false, 'sally.mcfly@enchantment.example', '2095550136');
INSERT INTO public.contact VALUES (58, NULL, NULL, 1, 67, '2026-11-24 05:40:53.28463+00', '2026-11-24 05:40:53.28463+00', NULL, 'primary', DEFAULT, true, true, 'biff.clayton@enchantment.example', '5305550189');
INSERT INTO public.contact VALUES (59, 33, 33, 1, 68, '2026-11-24 05:40:53.284631+00', '2026-11-24 05:40:53.284631+00', NULL, 'secondary', DEFAULT, false, true, 'dave.parker@hillvalley.edu', '5305550152');
INSERT INTO public.contact VALUES (60, NULL, NULL, 1, 69, '2026-11-24 05:40:53.284632+00', '2026-11-24 05:40:53.284632+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550130');
INSERT INTO public.contact VALUES (47, 17, NULL, 1, 54, '2026-11-24 05:40:53.284617+00', '2026-11-24 05:40:53.284645+00', NULL, 'secondary', DEFAULT, true, true, 'marty.wilson@enchantment.example', '2095550145');
INSERT INTO public.contact VALUES (48, 22, NULL, 1, 55, '2026-11-24 05:40:53.284618+00', '2026-11-24 05:40:53.284634+00', NULL, 'secondary', DEFAULT, true, true, 'buford.carruthers@hillvalley.edu', '5305550145');
INSERT INTO public.contact VALUES (61, NULL, NULL, 1, 72, '2026-11-24 05:40:53.284635+00', '2026-11-24 05:40:53.284635+00', NULL, 'primary', DEFAULT, true, true, 'goldie.baines@hillvalley.edu', '5305550122');
INSERT INTO public.contact VALUES (62, NULL, NULL, 1, 73, '2026-11-24 05:40:53.284636+00', '2026-11-24 05:40:53.284636+00', NULL, 'primary', DEFAULT, true, true, 'strickland.tannen@twinpines.example', '2095550120');
INSERT INTO public.contact VALUES (63, NULL, NULL, 1, 76, '2026-11-24 05:40:53.284639+00', '2026-11-24 05:40:53.284639+00', NULL, 'primary', DEFAULT, true, true, 'wilbur.tannen@lyon-estates.example', '5305550153');
INSERT INTO public.contact VALUES (64, 21, 21, 1, 77, '2026-11-24 05:40:53.28464+00', '2026-11-24 05:40:53.28464+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550133');
INSERT INTO public.contact VALUES (65, NULL, NULL, 1, 78, '2026-11-24 05:40:53.284641+00', '2026-11-24 05:40:53.284641+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550111');
INSERT INTO public.contact VALUES (66, 21, 21, 1, 79, '2026-11-24 05:40:53.284642+00', '2026-11-24 05:40:53.284642+00', NULL, 'secondary', DEFAULT, true, false, 'marvin.tannen@twinpines.example', '2095550138');
INSERT INTO public.contact VALUES (67, NULL, NULL, 1, 80, '2026-11-24 05:40:53.284643+00', '2026-11-24 05:40:53.284643+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550144');
INSERT INTO public.contact VALUES (68, NULL, NULL, 1, 81, '2026-11-24 05:40:53.284644+00', '2026-11-24 05:40:53.284644+00', NULL, 'primary', DEFAULT, true, true, 'marty.baines@hillvalley.example', '5305550104');
INSERT INTO public.contact VALUES (51, 17, 47, 1, 59, '2026-11-24 05:40:53.284622+00', '2026-11-24 05:40:53.284645+00', NULL, 'secondary', DEFAULT, false, true, 'marty.wilson@enchantment.example', '5305550125');
INSERT INTO public.contact VALUES (53, 17, 47, 1, 61, '2026-11-24 05:40:53.284624+00', '2026-11-24 05:40:53.284645+00', NULL, 'secondary', DEFAULT, false, true, 'marty.wilson@enchantment.example', '2095550121');
INSERT INTO public.contact VALUES (69, NULL, NULL, 1, 83, '2026-11-24 05:40:53.284646+00', '2026-11-24 05:40:53.284646+00', NULL, 'primary', DEFAULT, true, true, 'einstein.baines@twinpines.example', '2095550101');
INSERT INTO public.contact VALUES (70, NULL, NULL, 1, 84, '2026-11-24 05:40:53.284647+00', '2026-11-24 05:40:53.284647+00', NULL, 'primary', DEFAULT, true, true, 'clara.wilson@twinpines.example', '5305550139');
INSERT INTO public.contact VALUES (71, NULL, NULL, 1, 85, '2026-11-24 05:40:53.284648+00', '2026-11-24 05:40:53.284648+00', NULL, 'primary', DEFAULT, true, true, 'milton.mcfly@lyon-estates.example', '5305550154');
INSERT INTO public.contact VALUES (72, NULL, NULL, 1, 86, '2026-11-24 05:40:53.284649+00', '2026-11-24 05:40:53.284649+00', NULL, 'primary', DEFAULT, true, true, 'marlene.tannen@hillvalley.example', '5305550136');
INSERT INTO public.contact VALUES (73, NULL, NULL, 1, 87, '2026-11-24 05:40:53.28465+00', '2026-11-24 05:40:53.28465+00', NULL, 'primary', DEFAULT, true, true, 'doc.parker@twinpines.example', '5305550177');
INSERT INTO public.contact VALUES (74, NULL, NULL, 1, 88, '2026-11-24 05:40:53.284651+00', '2026-11-24 05:40:53.284651+00', NULL, 'primary', DEFAULT, true, true, 'doc.carruthers@enchantment.example', '5305550186');
INSERT INTO public.contact VALUES (75, NULL, NULL, 1, 89, '2026-11-24 05:40:53.284652+00', '2026-11-24 05:40:53.284652+00', NULL, 'primary', DEFAULT, true, true, 'match.baines@hillvalley.edu', '5305550193');
INSERT INTO public.contact VALUES (76, 33, 33, 1, 90, '2026-11-24 05:40:53.284653+00', '2026-11-24 05:40:53.284653+00', NULL, 'secondary', DEFAULT, true, false, 'otis.clayton@hillvalley.edu', '5305550152');
INSERT INTO public.contact VALUES (77, NULL, NULL, 1, 93, '2026-11-24 05:40:53.284656+00', '2026-11-24 05:40:53.284656+00', NULL, 'primary', DEFAULT, true, true, 'gale.mcfly@enchantment.example', '2095550160');
INSERT INTO public.contact VALUES (78, NULL, NULL, 1, 94, '2026-11-24 05:40:53.284657+00', '2026-11-24 05:40:53.284657+00', NULL, 'primary', DEFAULT, false, true, NULL, '2095550131');
INSERT INTO public.contact VALUES (79, NULL, NULL, 1, 95, '2026-11-24 05:40:53.284658+00', '2026-11-24 05:40:53.284658+00', NULL, 'primary', DEFAULT, true, true, 'lester.strickland@enchantment.example', '2095550192');
INSERT INTO public.contact VALUES (80, NULL, NULL, 1, 96, '2026-11-24 05:40:53.284659+00', '2026-11-24 05:40:53.284659+00', NULL, 'primary', DEFAULT, true, true, 'skinhead.parker@hillvalley.edu', '5305550146');
INSERT INTO public.contact VALUES (81, NULL, NULL, 1, 97, '2026-11-24 05:40:53.28466+00', '2026-11-24 05:40:53.28466+00', NULL, 'primary', DEFAULT, true, true, 'match.peabody@lyon-estates.example', '2095550171');
INSERT INTO public.contact VALUES (82, NULL, NULL, 1, 98, '2026-11-24 05:40:53.284661+00', '2026-11-24 05:40:53.284661+00', NULL, 'primary', DEFAULT, true, true, 'milton.mcfly@hillvalley.example', '2095550105');
INSERT INTO public.contact VALUES (83, NULL, NULL, 1, 99, '2026-11-24 05:40:53.284662+00', '2026-11-24 05:40:53.284662+00', NULL, 'primary', DEFAULT, true, true, 'marlene.peabody@enchantment.example', '5305550108');
INSERT INTO public.contact VALUES (84, 22, 22, 1, 100, '2026-11-24 05:40:53.284663+00', '2026-11-24 05:40:53.284663+00', NULL, 'secondary', DEFAULT, true, false, 'marty.carruthers@lyon-estates.example', '5305550137');
INSERT INTO public.contact VALUES (85, 21, 21, 1, 101, '2026-11-24 05:40:53.284664+00', '2026-11-24 05:40:53.284664+00', NULL, 'secondary', DEFAULT, false, true, 'griff.brown@enchantment.example', '2095550188');
INSERT INTO public.contact VALUES (86, NULL, NULL, 1, 103, '2026-11-24 05:40:53.284666+00', '2026-11-24 05:40:53.284666+00', NULL, 'primary', DEFAULT, true, true, 'strickland.clayton@lyon-estates.example', '5305550107');
INSERT INTO public.contact VALUES (87, NULL, NULL, 1, 104, '2026-11-24 05:40:53.284667+00', '2026-11-24 05:40:53.284667+00', NULL, 'primary', DEFAULT, true, true, 'marvin.brown@twinpines.example', '5305550118');
INSERT INTO public.contact VALUES (88, 17, 17, 1, 105, '2026-11-24 05:40:53.284668+00', '2026-11-24 05:40:53.284668+00', NULL, 'secondary', DEFAULT, true, false, 'marlene.parker@hillvalley.example', '5305550125');
INSERT INTO public.contact VALUES (89, NULL, NULL, 1, 106, '2026-11-24 05:40:53.284669+00', '2026-11-24 05:40:53.284669+00', NULL, 'primary', DEFAULT, true, true, 'marlene.mcfly@lyon-estates.example', '2095550190');
INSERT INTO public.contact VALUES (90, NULL, NULL, 1, 107, '2026-11-24 05:40:53.28467+00', '2026-11-24 05:40:53.28467+00', NULL, 'primary', DEFAULT, true, true, 'emmett.parker@lyon-estates.example', '2095550104');
INSERT INTO public.contact VALUES (91, 83, 83, 1, 108, '2026-11-24 05:40:53.284671+00', '2026-11-24 05:40:53.284671+00', NULL, 'secondary', DEFAULT, true, false, 'copernicus.brown@hillvalley.example', '5305550108');
INSERT INTO public.contact VALUES (92, NULL, NULL, 1, 109, '2026-11-24 05:40:53.284672+00', '2026-11-24 05:40:53.284672+00', NULL, 'primary', DEFAULT, true, true, 'buford.baines@lyon-estates.example', '2095550114');
INSERT INTO public.contact VALUES (93, 11, 11, 1, 110, '2026-11-24 05:40:53.284673+00', '2026-11-24 05:40:53.284673+00', NULL, 'secondary', DEFAULT, false, true, 'otis.peabody@twinpines.example', '5305550166');
INSERT INTO public.contact VALUES (94, 7, 7, 1, 111, '2026-11-24 05:40:53.284674+00', '2026-11-24 05:40:53.284674+00', NULL, 'secondary', DEFAULT, true, false, 'griff.wilson@hillvalley.example', '2095550137');
INSERT INTO public.contact VALUES (95, NULL, NULL, 1, 113, '2026-11-24 05:40:53.284676+00', '2026-11-24 05:40:53.284676+00', NULL, 'primary', DEFAULT, true, true, 'hubert.strickland@lyon-estates.example', '2095550153');
INSERT INTO public.import_run OVERRIDING SYSTEM VALUE VALUES (1, 'finished', '[{"path": "samples/contacts.csv", "size": 4842, "sha256": "14b88b304a2944c3ffff126bd03614acbcb98b527d89ed2ae4f1d9e6ff852a99"}]', 'dfc8d9032ab7f5e82423ed16bab1a8a8535d06dd75ed30ced9a6606ff6f63eaa', -2321367000284662296, '{"rows": 112, "clock": 1795498853284563, "input": 0, "marks": [95, 6], "counts": {"read": 112, "linked": 30, "merged": 6, "created": 65, "rejected": 0, "unchanged": 11}, "rejects": [null], "retries": 0, "seconds": 0.7126233577728271, "outcomes": null, "position": [4842, "14b88b304a2944c3ffff126bd03614acbcb98b527d89ed2ae4f1d9e6ff852a99"], "first_line": 0}', '{"read": 112, "linked": 30, "merged": 6, "created": 65, "rejected": 0, "unchanged": 11}', 0.7126233577728271, '2026-11-24 05:40:53.260675+00', '2026-11-24 05:40:53.346173+00');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (1, 3, 4, 1, 6, '2026-11-24 05:40:53.284569+00', 'george@hillvalley.edu', '717171');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (2, 10, 14, 1, 36, '2026-11-24 05:40:53.284599+00', 'clara.wilson@enchantment.example', '2095550186');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (3, 22, 26, 1, 47, '2026-11-24 05:40:53.28461+00', 'copernicus.tannen@enchantment.example', '2095550142');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (4, 11, 13, 1, 53, '2026-11-24 05:40:53.284616+00', 'otis.peabody@twinpines.example', '2095550136');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (5, 22, 48, 1, 71, '2026-11-24 05:40:53.284634+00', 'needles.tannen@lyon-estates.example', '5305550145');
INSERT INTO public.link_evidence OVERRIDING SYSTEM VALUE VALUES (6, 17, 47, 1, 82, '2026-11-24 05:40:53.284645+00', 'lou.parker@hillvalley.edu', '2095550121');
INSERT INTO public.normalization_profile VALUES (true, 1, NULL);
SELECT pg_catalog.setval('public.contact_id_seq', 95, true);
SELECT pg_catalog.setval('public.import_run_id_seq', 1, true);
SELECT pg_catalog.setval('public.link_evidence_id_seq', 6, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_id_link_precedence_key UNIQUE (id, link_precedence);
ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.import_run
    ADD CONSTRAINT import_run_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.link_evidence
    ADD CONSTRAINT link_evidence_pair_key UNIQUE (email, phone_number);
ALTER TABLE ONLY public.link_evidence
    ADD CONSTRAINT link_evidence_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.normalization_profile
    ADD CONSTRAINT normalization_profile_pkey PRIMARY KEY (only_row);
CREATE UNIQUE INDEX contact_email_anchor ON public.contact USING btree (email) WHERE anchors_email;
CREATE INDEX contact_linked_id ON public.contact USING btree (linked_id) WHERE (linked_id IS NOT NULL);
CREATE UNIQUE INDEX contact_phone_anchor ON public.contact USING btree (phone_number) WHERE anchors_phone;
CREATE UNIQUE INDEX link_evidence_merged_id ON public.link_evidence USING btree (merged_id) WHERE (merged_id IS NOT NULL);
CREATE TRIGGER contact_identifiers_deleted AFTER DELETE ON public.contact REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.guard_identifiers_deleted();
CREATE TRIGGER contact_identifiers_inserted AFTER INSERT ON public.contact FOR EACH ROW WHEN ((((new.email IS NOT NULL) AND (NOT new.anchors_email)) OR ((new.phone_number IS NOT NULL) AND (NOT new.anchors_phone)))) EXECUTE FUNCTION public.guard_identifiers_inserted();
CREATE TRIGGER contact_identifiers_updated AFTER UPDATE ON public.contact REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.guard_identifiers_updated();
ALTER TABLE ONLY public.contact
    ADD CONSTRAINT contact_links_to_a_primary FOREIGN KEY (linked_id, linked_precedence) REFERENCES public.contact(id, link_precedence);
