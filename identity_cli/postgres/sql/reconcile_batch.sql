-- Many requests in one round trip, each in a transaction of its own: COMMIT after every one of them. If commit_each is
-- false (a dry run), all of it belongs to the caller's transaction.
--
-- The lists are texts with an entry for each request: emails and phone numbers with a line feed between two entries, and
-- a unit separator (U+001F) between two values of a request; times, in microseconds since 1970, and lines of the run with
-- commas between them. line_list is null for requests that come from no file.
--
-- outcomes has a letter for each request: 'c' created, 'l' linked, 'm' merged, 'u' unchanged, 'b' blocked, 'f' forgotten,
-- 'r' refused, with the SQLSTATE of each refusal in sqlstates. primary_ids and contact_ids have an entry for each request,
-- separated by commas: the primary that it led to, and the contacts that it stored, separated by spaces.
--
-- profile_version and profile_region are those of claim_profile(), as long as the database may hold no contact;
-- a null version: it is known to hold one of this profile.
--
-- The anchors of all values are looked up at once. What follows from them with certainty is stored as reconcile() would
-- store it; whatever else there is asks reconcile(): a request of several values, a value that a rule concerns or that an
-- earlier request of the batch has brought in, a row that the database does not take because somebody came between.
-- A request that stores nothing counts as made at the moment of the look-up.
--
-- What a concurrent request may cause is tried again, at most 300 times and for at most five minutes; where it may be a
-- constraint of somebody else, at most 50 times (as in core.py). A request that the database refuses all the same, or
-- refuses for a reason of its own, fails alone. A condition of the server (its disk, its shutdown, a missing part of the
-- schema) is raised.
CREATE OR REPLACE PROCEDURE reconcile_batch(
    email_list text,
    phone_list text,
    time_list text,
    run bigint,
    line_list text,
    commit_each boolean,
    profile_version integer,
    profile_region text,
    INOUT outcomes text DEFAULT '',
    INOUT primary_ids text DEFAULT '',
    INOUT contact_ids text DEFAULT '',
    INOUT sqlstates text[] DEFAULT '{}',
    INOUT retries bigint DEFAULT 0
)
LANGUAGE plpgsql AS $$
DECLARE
    emails CONSTANT text[] := string_to_array(email_list, E'\n', '');
    phones CONSTANT text[] := string_to_array(phone_list, E'\n', '');
    lines CONSTANT bigint[] := string_to_array(line_list, ',')::bigint[];
    times timestamptz[];
    -- What a request needs: 0 nothing, 1 a contact of a new identity, 2 a contact of a known one, 3 a merge, 4 reconcile(),
    -- 5 reconcile_steered().
    needs smallint[];
    needed smallint;          -- what the request at hand needs
    email_ids bigint[];       -- the contacts that anchor the values
    phone_ids bigint[];
    roots bigint[];           -- the primary that the email leads to, or else the phone number
    other_roots bigint[];     -- the primary that the phone number leads to
    new_emails boolean[];
    new_phones boolean[];
    email_partners boolean[]; -- the contact that anchors the value shows another one beside it
    phone_partners boolean[];
    created timestamptz[];
    new_ids bigint[];
    results reconciliation[];
    result reconciliation;
    new_id bigint;
    rules CONSTANT integer := rules_in_force();
    -- Somebody's constraint that is checked at the COMMIT would end the whole batch there.
    has_deferred_checks CONSTANT boolean := EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid IN ('contact'::regclass, 'link_evidence'::regclass) AND tgdeferrable
    );
    has_checks CONSTANT boolean := rules > 0 OR has_deferred_checks;
    checks_new_values CONSTANT boolean := rules % 2 = 1;
    counts_partners CONSTANT boolean := rules >= 2;
    last_hub CONSTANT bigint := CASE WHEN counts_partners THEN (SELECT max(id) FROM steering_command) END;
    last_decided integer;     -- the last request that the look-up decides
    last_evidence bigint := (SELECT coalesce(max(id), 0) FROM link_evidence);
    gone_root bigint;
    kept_root bigint;
    makes_hub boolean;
    failed_request integer;
    failures integer;
    first_failure timestamptz;
BEGIN
    -- The look-ups are sub-selects of their own (OFFSET 0): joined, they would be planned by statistics, which are of no
    -- use while the tables grow.
    SELECT array_agg(CASE
               -- A value that may become a hub within this batch; a request of several values has many partners for it.
               WHEN counts_partners AND need IN (2, 3) AND (
                   is_one_of_several
                   OR email_root IS NOT NULL
                   AND coalesce((SELECT partners FROM partner_count WHERE value = email), email_partner::integer)
                       + email_requests > rules / 2
                   AND is_full(email, email_partner, email_requests)
                   OR phone_root IS NOT NULL
                   AND coalesce((SELECT partners FROM partner_count WHERE value = phone), phone_partner::integer)
                       + phone_requests > rules / 2
                   AND is_full(phone, phone_partner, phone_requests)
               ) THEN 4::smallint ELSE need END),
           array_agg(email_id), array_agg(phone_id), array_agg(coalesce(email_root, phone_root)), array_agg(phone_root),
           array_agg(email IS NOT NULL AND email_root IS NULL), array_agg(phone IS NOT NULL AND phone_root IS NULL),
           array_agg(email_partner), array_agg(phone_partner), array_agg(at), array_agg(created_at)
    INTO needs, email_ids, phone_ids, roots, other_roots, new_emails, new_phones, email_partners, phone_partners,
         times, created
    FROM (
        WITH request AS MATERIALIZED (
            SELECT * FROM unnest(string_to_array(time_list, ',')::bigint[], emails, phones)
                WITH ORDINALITY AS request (microseconds, email, phone, place)
        ), one_of_several (value) AS MATERIALIZED (
            SELECT unnest(string_to_array(email, E'\x1f')) FROM request WHERE strpos(email, E'\x1f') > 0
            UNION ALL
            SELECT unnest(string_to_array(phone, E'\x1f')) FROM request WHERE strpos(phone, E'\x1f') > 0
        )
        SELECT r.email, r.phone, r.at, email_requests, phone_requests,
               counts_partners AND (r.email IN (SELECT value FROM one_of_several)
                                    OR r.phone IN (SELECT value FROM one_of_several)) AS is_one_of_several,
               e.id AS email_id, p.id AS phone_id, e.root AS email_root, p.root AS phone_root,
               greatest(r.at, e.created_at, p.created_at) AS created_at,
               e.phone_number IS NOT NULL AS email_partner, p.email IS NOT NULL AS phone_partner,
               CASE
                   WHEN strpos(concat(r.email, r.phone), E'\x1f') > 0 THEN 4
                   WHEN r.email IS NOT NULL AND e.root IS NULL
                           AND (email_place > 1 OR r.email IN (SELECT value FROM one_of_several))
                       OR r.phone IS NOT NULL AND p.root IS NULL
                           AND (phone_place > 1 OR r.phone IN (SELECT value FROM one_of_several)) THEN 4
                   WHEN e.root < 0 OR p.root < 0 THEN 5
                   WHEN e.root IS NULL AND p.root IS NULL THEN 1
                   WHEN r.email IS NOT NULL AND e.root IS NULL OR r.phone IS NOT NULL AND p.root IS NULL THEN 2
                   WHEN e.root <> p.root THEN 3
                   -- Known; stated by a run that cannot be undone before this one.
                   WHEN CASE WHEN p.root IS NULL OR e.phone_number = r.phone THEN coalesce(e.run_id, 0)
                             WHEN e.root IS NULL OR p.email = r.email THEN coalesce(p.run_id, 0)
                             ELSE (SELECT coalesce(run_id, 0) FROM link_evidence
                                   WHERE value = r.email AND other_value = r.phone) END <= coalesce(run, 0) THEN 0
                   ELSE 4
               END::smallint AS need
        FROM (
            SELECT place, email, phone, 'epoch'::timestamptz + microseconds * '1 microsecond'::interval AS at,
                   row_number() OVER (PARTITION BY email COLLATE "C" ORDER BY place) AS email_place,
                   row_number() OVER (PARTITION BY phone COLLATE "C" ORDER BY place) AS phone_place,
                   count(*) OVER (PARTITION BY email COLLATE "C") AS email_requests,
                   count(*) OVER (PARTITION BY phone COLLATE "C") AS phone_requests
            FROM request
        ) AS r
        LEFT JOIN LATERAL (
            SELECT id, coalesce(linked_id, id) AS root, phone_number, created_at, run_id
            FROM contact WHERE email = r.email AND anchors_email OFFSET 0
        ) AS e ON true
        LEFT JOIN LATERAL (
            SELECT id, coalesce(linked_id, id) AS root, email, created_at, run_id
            FROM contact WHERE phone_number = r.phone AND anchors_phone OFFSET 0
        ) AS p ON true
        ORDER BY place OFFSET 0
    ) AS looked_up;
    IF needs IS NULL THEN
        RETURN;
    END IF;
    new_ids := array_fill(NULL::bigint, ARRAY[cardinality(needs)]);
    results := array_fill(NULL::reconciliation, ARRAY[cardinality(needs)]);
    IF profile_version IS NOT NULL THEN
        needs := array_fill(4::smallint, ARRAY[cardinality(needs)]);
    END IF;
    last_decided := (SELECT max(place) FROM unnest(needs) WITH ORDINALITY AS request (need, place) WHERE need < 4);

    -- An expression costs about half a microsecond after each COMMIT, so a request that goes well evaluates few of them.
    FOR i IN 1 .. cardinality(needs) LOOP
        needed := needs[i];
        IF needed = 0 THEN
            IF commit_each THEN
                COMMIT;
            END IF;
            CONTINUE;
        END IF;
        LOOP
            BEGIN
                IF checks_new_values THEN
                    IF needed < 4 AND num_nonnulls(VARIADIC rules_for_new_values(
                        emails[i], phones[i], new_emails[i], new_phones[i])) > 0 THEN
                        needed := 4;
                    END IF;
                END IF;
                IF needed = 1 THEN
                    INSERT INTO contact (email, phone_number, link_precedence, anchors_email, anchors_phone,
                                         run_id, line, created_at, updated_at)
                    VALUES (emails[i], phones[i], 'primary', new_emails[i], new_phones[i],
                            run, lines[i], times[i], times[i])
                    RETURNING id INTO new_id;
                ELSIF needed = 2 THEN
                    INSERT INTO contact (email, phone_number, linked_id, initial_linked_id, link_precedence,
                                         anchors_email, anchors_phone, run_id, line, created_at, updated_at)
                    VALUES (emails[i], phones[i], roots[i], roots[i], 'secondary',
                            new_emails[i], new_phones[i], run, lines[i], created[i], created[i])
                    RETURNING id INTO new_id;
                ELSIF needed = 3 AND roots[i] <> other_roots[i] THEN
                    gone_root := merge_identities(emails[i], phones[i], email_ids[i], phone_ids[i],
                                                  roots[i], other_roots[i], times[i], run, lines[i]);
                    IF gone_root > 0 IS NOT TRUE THEN
                        RAISE EXCEPTION 'the identities have changed' USING ERRCODE = 'serialization_failure';
                    END IF;
                ELSIF needed = 5 THEN
                    result := reconcile_steered(emails[i], phones[i], email_ids[i], phone_ids[i], times[i], run, lines[i],
                                                false, false);
                    IF result.outcome IS NULL THEN
                        RAISE EXCEPTION 'a rule has gone' USING ERRCODE = 'serialization_failure';
                    END IF;
                ELSE
                    needed := 4;
                    IF profile_version IS NOT NULL THEN
                        PERFORM claim_profile(profile_version, profile_region);
                    END IF;
                    IF failed_request = i THEN
                        PERFORM lock_primaries(string_to_array(emails[i], E'\x1f'), string_to_array(phones[i], E'\x1f'));
                    END IF;
                    IF strpos(concat(emails[i], phones[i]), E'\x1f') > 0 THEN
                        result := reconcile_request(string_to_array(emails[i], E'\x1f'), string_to_array(phones[i], E'\x1f'),
                                                    times[i], run, lines[i]);
                    ELSE
                        result := reconcile(emails[i], phones[i], times[i], run, lines[i]);
                    END IF;
                END IF;
                IF has_checks OR rules_in_force() > 0 THEN
                    -- After the INSERT, which keeps commands from changing rules until the COMMIT. Short conditions: each
                    -- costs by its length, also the part of it that is not reached.
                    IF rules_in_force() <> rules AND needed < 4 THEN
                        RAISE EXCEPTION 'the rules have changed' USING ERRCODE = 'serialization_failure';
                    END IF;
                    IF checks_new_values THEN
                        IF needed < 4 AND num_nonnulls(VARIADIC rules_for_new_values(
                            emails[i], phones[i], new_emails[i], new_phones[i])) > 0 THEN
                            RAISE EXCEPTION 'a rule concerns the request' USING ERRCODE = 'serialization_failure';
                        END IF;
                    END IF;
                    IF counts_partners THEN
                        IF needed = 2 THEN
                            IF new_emails[i] THEN
                                makes_hub := count_partner(phones[i], phone_partners[i]);
                            ELSE
                                makes_hub := count_partner(emails[i], email_partners[i]);
                            END IF;
                            makes_hub := makes_hub AND new_hubs(ARRAY[emails[i], phones[i]]) IS NOT NULL;
                        ELSIF needed = 3 THEN
                            makes_hub := count_pair(emails[i], email_partners[i], phones[i], phone_partners[i]) IS NOT NULL;
                        ELSE
                            makes_hub := false;
                        END IF;
                        IF makes_hub THEN
                            RAISE EXCEPTION 'the request makes a hub' USING ERRCODE = 'serialization_failure';
                        END IF;
                    END IF;
                    IF has_deferred_checks THEN
                        SET CONSTRAINTS ALL IMMEDIATE;
                    END IF;
                END IF;
                EXIT;
            EXCEPTION
                -- 23G01: a command has moved a value at the same moment.
                WHEN deadlock_detected OR serialization_failure OR foreign_key_violation OR unique_violation
                    OR lock_not_available OR SQLSTATE '23G01' THEN
                    result := ('refused ' || SQLSTATE, NULL, NULL, NULL);
                    IF needed <> 4 THEN
                        needed := 4;
                    ELSE
                        IF failed_request IS DISTINCT FROM i THEN
                            failed_request := i;
                            failures := 0;
                            first_failure := clock_timestamp();
                        END IF;
                        failures := failures + 1;
                        EXIT WHEN failures >= CASE WHEN left(SQLSTATE, 2) = '23' THEN 50 ELSE 300 END
                            OR clock_timestamp() > first_failure + '5 minutes'::interval;
                        PERFORM pg_sleep(random() * least(failures, 50) / 1000);
                    END IF;
                    retries := retries + 1;
                WHEN OTHERS THEN
                    IF left(SQLSTATE, 2) IN ('08', '25', '53', '57', '58', 'F0', 'XX')
                        OR SQLSTATE IN ('42P01', '42703', '42883', 'ID001', 'ID003') THEN
                        RAISE;
                    END IF;
                    result := ('refused ' || SQLSTATE, NULL, NULL, NULL);
                    needed := 4;
                    EXIT;
            END;
        END LOOP;
        -- Outside of the block: a transaction cannot end inside one that catches errors.
        IF commit_each THEN
            COMMIT;
        END IF;
        IF needed < 3 THEN
            new_ids[i] := new_id;
            CONTINUE;
        ELSIF needed = 3 THEN
            kept_root := CASE WHEN gone_root = roots[i] THEN other_roots[i] ELSE roots[i] END;
            roots[i] := kept_root;
            other_roots[i] := kept_root;
            IF gone_root = ANY (roots) OR gone_root = ANY (other_roots) THEN
                roots := roots[:i] || array_replace(roots[i + 1:], gone_root, kept_root);
                other_roots := array_replace(other_roots, gone_root, kept_root);
            END IF;
            CONTINUE;
        END IF;
        needs[i] := 4;
        results[i] := result;
        IF counts_partners THEN
            IF last_hub IS DISTINCT FROM (SELECT max(id) FROM steering_command) THEN
                -- Identities were worked out again, and which ones is not known here.
                needs := needs[:i] || array_fill(4::smallint, ARRAY[cardinality(needs) - i]);
                CONTINUE;
            END IF;
        END IF;
        IF i < last_decided AND result.outcome IN ('created', 'merged') THEN
            -- The requests that follow meet the identities that were merged under their new primaries.
            FOR gone_root, kept_root IN
                SELECT merged_id, primary_id FROM link_evidence
                WHERE id > last_evidence AND merged_id IS NOT NULL ORDER BY id
            LOOP
                roots := roots[:i] || array_replace(roots[i + 1:], gone_root, kept_root);
                other_roots := array_replace(other_roots, gone_root, kept_root);
            END LOOP;
            -- A request of several values stores many rows of evidence: they are looked at once.
            last_evidence := (SELECT coalesce(max(id), 0) FROM link_evidence);
        END IF;
    END LOOP;

    SELECT string_agg(CASE need WHEN 0 THEN 'u' WHEN 1 THEN 'c' WHEN 2 THEN 'l' WHEN 3 THEN 'm'
                           ELSE left(answer.outcome, 1) END, ''
                      ORDER BY place),
           string_agg(coalesce(CASE WHEN need = 1 THEN stored WHEN need < 4 THEN root ELSE answer.primary_id END::text, ''), ','
                      ORDER BY place),
           string_agg(coalesce(stored::text, array_to_string(answer.contact_ids, ' '), answer.contact_id::text, ''), ','
                      ORDER BY place),
           coalesce(array_agg(split_part(answer.outcome, ' ', 2) ORDER BY place)
                    FILTER (WHERE answer.outcome LIKE 'refused%'), '{}')
    INTO outcomes, primary_ids, contact_ids, sqlstates
    FROM unnest(needs, roots, new_ids) WITH ORDINALITY AS request (need, root, stored, place)
    LEFT JOIN unnest(results) WITH ORDINALITY AS answer (outcome, primary_id, contact_id, contact_ids, place) USING (place);
END $$;
