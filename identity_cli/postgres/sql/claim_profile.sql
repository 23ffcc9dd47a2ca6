-- Store the normalisation profile with the first contact: called in the transaction of a request as long as the
-- database holds no contact. The row stays locked until that transaction ends, so that two first writers with
-- different profiles cannot both get in; the second one waits, then sees the first one's contact.
--
-- A database of an older version is taken as it is: what it holds is normal in the newer version too.
--
-- Raises ID001 if the database holds contacts with another region, or of a newer version.
CREATE OR REPLACE FUNCTION claim_profile(wanted_version integer, wanted_region text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    stored normalization_profile;
BEGIN
    INSERT INTO normalization_profile (version, region) VALUES (wanted_version, wanted_region) ON CONFLICT DO NOTHING;
    SELECT * INTO stored FROM normalization_profile FOR UPDATE;
    IF stored.version = wanted_version AND stored.region IS NOT DISTINCT FROM wanted_region THEN
        RETURN;
    END IF;
    -- A statement of its own: it sees what was committed while this one waited for the row.
    IF EXISTS (SELECT FROM contact WHERE id > 0) OR EXISTS (SELECT FROM set_aside_contact) THEN
        IF stored.version <= wanted_version AND stored.region IS NOT DISTINCT FROM wanted_region THEN
            RETURN;
        END IF;
        RAISE EXCEPTION 'the database holds values of another normalisation profile' USING ERRCODE = 'ID001';
    END IF;
    UPDATE normalization_profile SET version = wanted_version, region = wanted_region;
END $$;
